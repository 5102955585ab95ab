"""The Chinook sample database: a shop for music, in eleven tables that nobody here designed.

Names of tables and columns, lengths and references are Chinook's; the classes and their attributes are ours.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo.sqlalchemy.types import LocalDateTime


class Base(DeclarativeBase): ...


class ArtistRow(Base):
    __tablename__ = "Artist"
    id: Mapped[int] = mapped_column("ArtistId", primary_key=True)
    name: Mapped[str | None] = mapped_column("Name", String(120))


class AlbumRow(Base):
    __tablename__ = "Album"
    id: Mapped[int] = mapped_column("AlbumId", primary_key=True)
    title: Mapped[str] = mapped_column("Title", String(160))
    artist_id: Mapped[int] = mapped_column("ArtistId", ForeignKey("Artist.ArtistId"), index=True)


class GenreRow(Base):
    __tablename__ = "Genre"
    id: Mapped[int] = mapped_column("GenreId", primary_key=True)
    name: Mapped[str | None] = mapped_column("Name", String(120))


class MediaTypeRow(Base):
    __tablename__ = "MediaType"
    id: Mapped[int] = mapped_column("MediaTypeId", primary_key=True)
    name: Mapped[str | None] = mapped_column("Name", String(120))


class TrackRow(Base):
    __tablename__ = "Track"
    id: Mapped[int] = mapped_column("TrackId", primary_key=True)
    name: Mapped[str] = mapped_column("Name", String(200))
    album_id: Mapped[int | None] = mapped_column("AlbumId", ForeignKey("Album.AlbumId"), index=True)
    media_type_id: Mapped[int] = mapped_column("MediaTypeId", ForeignKey("MediaType.MediaTypeId"), index=True)
    genre_id: Mapped[int | None] = mapped_column("GenreId", ForeignKey("Genre.GenreId"), index=True)
    composer: Mapped[str | None] = mapped_column("Composer", String(220))
    milliseconds: Mapped[int] = mapped_column("Milliseconds")
    bytes: Mapped[int | None] = mapped_column("Bytes")
    unit_price: Mapped[Decimal] = mapped_column("UnitPrice", Numeric(10, 2))


class PlaylistRow(Base):
    __tablename__ = "Playlist"
    id: Mapped[int] = mapped_column("PlaylistId", primary_key=True)
    name: Mapped[str | None] = mapped_column("Name", String(120))


class PlaylistTrackRow(Base):
    __tablename__ = "PlaylistTrack"
    playlist_id: Mapped[int] = mapped_column("PlaylistId", ForeignKey("Playlist.PlaylistId"), primary_key=True)
    track_id: Mapped[int] = mapped_column("TrackId", ForeignKey("Track.TrackId"), primary_key=True, index=True)


class EmployeeRow(Base):
    __tablename__ = "Employee"
    id: Mapped[int] = mapped_column("EmployeeId", primary_key=True)
    last_name: Mapped[str] = mapped_column("LastName", String(20))
    first_name: Mapped[str] = mapped_column("FirstName", String(20))
    title: Mapped[str | None] = mapped_column("Title", String(30))
    reports_to: Mapped[int | None] = mapped_column("ReportsTo", ForeignKey("Employee.EmployeeId"), index=True)
    birth_date: Mapped[datetime | None] = mapped_column("BirthDate", LocalDateTime())
    hire_date: Mapped[datetime | None] = mapped_column("HireDate", LocalDateTime())
    address: Mapped[str | None] = mapped_column("Address", String(70))
    city: Mapped[str | None] = mapped_column("City", String(40))
    state: Mapped[str | None] = mapped_column("State", String(40))
    country: Mapped[str | None] = mapped_column("Country", String(40))
    postal_code: Mapped[str | None] = mapped_column("PostalCode", String(10))
    phone: Mapped[str | None] = mapped_column("Phone", String(24))
    fax: Mapped[str | None] = mapped_column("Fax", String(24))
    email: Mapped[str | None] = mapped_column("Email", String(60))


class CustomerRow(Base):
    __tablename__ = "Customer"
    id: Mapped[int] = mapped_column("CustomerId", primary_key=True)
    first_name: Mapped[str] = mapped_column("FirstName", String(40))
    last_name: Mapped[str] = mapped_column("LastName", String(20))
    company: Mapped[str | None] = mapped_column("Company", String(80))
    address: Mapped[str | None] = mapped_column("Address", String(70))
    city: Mapped[str | None] = mapped_column("City", String(40))
    state: Mapped[str | None] = mapped_column("State", String(40))
    country: Mapped[str | None] = mapped_column("Country", String(40))
    postal_code: Mapped[str | None] = mapped_column("PostalCode", String(10))
    phone: Mapped[str | None] = mapped_column("Phone", String(24))
    fax: Mapped[str | None] = mapped_column("Fax", String(24))
    email: Mapped[str] = mapped_column("Email", String(60))
    support_rep_id: Mapped[int | None] = mapped_column("SupportRepId", ForeignKey("Employee.EmployeeId"), index=True)


class InvoiceRow(Base):
    __tablename__ = "Invoice"
    id: Mapped[int] = mapped_column("InvoiceId", primary_key=True)
    customer_id: Mapped[int] = mapped_column("CustomerId", ForeignKey("Customer.CustomerId"), index=True)
    invoice_date: Mapped[datetime] = mapped_column("InvoiceDate", LocalDateTime())
    billing_address: Mapped[str | None] = mapped_column("BillingAddress", String(70))
    billing_city: Mapped[str | None] = mapped_column("BillingCity", String(40))
    billing_state: Mapped[str | None] = mapped_column("BillingState", String(40))
    billing_country: Mapped[str | None] = mapped_column("BillingCountry", String(40))
    billing_postal_code: Mapped[str | None] = mapped_column("BillingPostalCode", String(10))
    total: Mapped[Decimal] = mapped_column("Total", Numeric(10, 2))


class InvoiceLineRow(Base):
    __tablename__ = "InvoiceLine"
    id: Mapped[int] = mapped_column("InvoiceLineId", primary_key=True)
    invoice_id: Mapped[int] = mapped_column("InvoiceId", ForeignKey("Invoice.InvoiceId"), index=True)
    track_id: Mapped[int] = mapped_column("TrackId", ForeignKey("Track.TrackId"), index=True)
    unit_price: Mapped[Decimal] = mapped_column("UnitPrice", Numeric(10, 2))
    quantity: Mapped[int] = mapped_column("Quantity")
