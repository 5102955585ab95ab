"""The shop's repositories, one per table, and the unit of work that holds them."""

from sqlrepo import BaseRepository, BaseUnitOfWork
from tests.chinook import tables
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


class Artists(BaseRepository[Artist, int]):
    model = tables.ArtistRow


class Albums(BaseRepository[Album, int]):
    model = tables.AlbumRow


class Genres(BaseRepository[Genre, int]):
    model = tables.GenreRow


class MediaTypes(BaseRepository[MediaType, int]):
    model = tables.MediaTypeRow


class Tracks(BaseRepository[Track, int]):
    model = tables.TrackRow


class Playlists(BaseRepository[Playlist, int]):
    model = tables.PlaylistRow


class PlaylistTracks(BaseRepository[PlaylistTrack, tuple[int, int]]):
    model = tables.PlaylistTrackRow


class Employees(BaseRepository[Employee, int]):
    model = tables.EmployeeRow


class Customers(BaseRepository[Customer, int]):
    model = tables.CustomerRow


class Invoices(BaseRepository[Invoice, int]):
    model = tables.InvoiceRow


class InvoiceLines(BaseRepository[InvoiceLine, int]):
    model = tables.InvoiceLineRow


class MusicShop(BaseUnitOfWork):
    artists: Artists
    albums: Albums
    genres: Genres
    media_types: MediaTypes
    tracks: Tracks
    playlists: Playlists
    playlist_tracks: PlaylistTracks
    employees: Employees
    customers: Customers
    invoices: Invoices
    invoice_lines: InvoiceLines
