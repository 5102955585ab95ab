"""Rows as a shop for music has them: names of many countries, gaps, prices, a hierarchy of employees."""

from datetime import datetime, timedelta
from decimal import Decimal

from tests.chinook.domain import (
    Album,
    Artist,
    Customer,
    Employee,
    Genre,
    Invoice,
    InvoiceLine,
    MediaType,
    Playlist,
    PlaylistTrack,
    Track,
)

OPENING = datetime(2010, 1, 4, 9, 30)  # noqa: DTZ001  # the shop's own time, as Chinook has it

ARTISTS = ["AC/DC", "Antônio Carlos Jobim", "Björk", "Édith Piaf", "Miles Davis", "Motörhead", "Sigur Rós", None]
GENRES = ["Rock", "Jazz", "Metal", "Bossa Nova", "Chanson", None]
MEDIA = ["MPEG audio file", "AAC audio file", "Protected AAC audio file"]
ALBUMS = [
    ("High Voltage", 1),
    ("Wave", 2),
    ("Homogenic", 3),
    ("La vie en rose", 4),
    ("Kind of Blue", 5),
    ("Ace of Spades", 6),
    ("()", 7),
    ("100% live_", 6),
]
TRACKS = [
    ("T.N.T.", 1, 1, "Young, Young, Scott", 214_000),
    ("Wave", 2, 4, "Antônio Carlos Jobim", 171_000),
    ("Jóga", 3, None, "Björk, Sjón", 305_000),
    ("La foule", 4, 5, None, 181_000),
    ("So What", 5, 2, "Miles Davis", 562_000),
    ("Blue in Green", 5, 2, "Miles Davis", 337_000),
    ("Ace of Spades", 6, 3, "Kilmister, Clarke, Taylor", 166_000),
    ("Ace of Spades", 8, 3, "Kilmister, Clarke, Taylor", 171_500),
    ("Untitled #1", 7, 1, None, 398_000),
    ("an unfinished take", None, None, None, 1),
]
PEOPLE = [
    ("Weiß", "Jürgen", "Director", None),
    ("O'Neill", "Siobhán", "Sales manager", 1),
    ("Nguyễn", "Linh", "Sales", 2),
    ("da Silva", "João", "Sales", 2),
    ("İnce", "Ayşe", None, 1),
]
CUSTOMERS = [
    ("Luís", "Gonçalves", "Embrapa", "Brazil", 3),
    ("Leonie", "Köhler", None, "Germany", 4),
    ("Bjørn", "Hansen", None, "Norway", 3),
    ("František", "Wichterlová", "JetBrains", "Czechia", None),
    ("Mark", "Taylor", None, "Australia", 4),
]


def artist(n):
    return Artist(name=ARTISTS[n % len(ARTISTS)])


def album(n):
    title, artist_id = ALBUMS[n % len(ALBUMS)]
    return Album(title=f"{title} {n}", artist_id=artist_id)


def genre(n):
    return Genre(GENRES[n % len(GENRES)])


def media_type(n):
    return MediaType(MEDIA[n % len(MEDIA)])


def track(n):
    name, album_id, genre_id, composer, milliseconds = TRACKS[n % len(TRACKS)]
    return Track(
        name=name,
        album_id=album_id,
        media_type_id=n % len(MEDIA) + 1,
        genre_id=genre_id,
        composer=composer,
        milliseconds=milliseconds,
        bytes=None if n % 3 else milliseconds * 32,
        unit_price=Decimal("0.99") if n % 2 else Decimal("1.29"),
    )


def playlist(n):
    return Playlist(f"Evening {n}" if n % 4 else None)


def playlist_track(n):
    return PlaylistTrack(n % 3 + 1, n % len(TRACKS) + 1)


def employee(n):
    last, first, title, boss = PEOPLE[n % len(PEOPLE)]
    return Employee(
        last, first, title, boss, OPENING - timedelta(days=9000 + 500 * n), OPENING + timedelta(days=n), city="Calgary"
    )


def customer(n):
    first, last, company, country, support = CUSTOMERS[n % len(CUSTOMERS)]
    return Customer(
        first_name=first,
        last_name=last,
        company=company,
        country=country,
        email=f"customer{n}@example.org",
        postal_code=None if n % 2 else f"{n:05}",
        support_rep_id=support,
    )


def invoice(n):
    return Invoice(
        customer_id=n % len(CUSTOMERS) + 1,
        invoice_date=OPENING + timedelta(days=31 * (n % 12), microseconds=n),
        billing_country=CUSTOMERS[n % len(CUSTOMERS)][3] if n % 4 else None,
        total=Decimal(n) * Decimal("0.99"),
    )


def invoice_line(n):
    return InvoiceLine(
        invoice_id=n % 7 + 1, track_id=n % len(TRACKS) + 1, unit_price=Decimal("0.99"), quantity=n % 3 + 1
    )


#: What makes the rows of each repository, and how many are there before a test; parents first.
STOCK = {
    "artists": (artist, len(ARTISTS)),
    "albums": (album, len(ALBUMS)),
    "genres": (genre, len(GENRES)),
    "media_types": (media_type, len(MEDIA)),
    "tracks": (track, len(TRACKS)),
    "playlists": (playlist, 3),
    "employees": (employee, len(PEOPLE)),
    "customers": (customer, len(CUSTOMERS)),
    "invoices": (invoice, 7),
    "playlist_tracks": (playlist_track, 0),
    "invoice_lines": (invoice_line, 0),
}


def stock(shop, name):
    """Store what the rows of one repository may refer to, and none of its own."""
    for other, (make, count) in STOCK.items():
        if other == name:
            return
        getattr(shop, other).add_many([make(n) for n in range(count)])
