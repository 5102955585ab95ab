"""What the shop is about; nothing of SQLAlchemy. Models, dataclasses and a class of attrs, as an application grows."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import attrs
from pydantic import BaseModel

from sqlrepo import QueryObject


class Artist(BaseModel):
    id: int | None = None
    name: str | None = None


class Album(BaseModel):
    id: int | None = None
    title: str
    artist_id: int


@dataclass(frozen=True)
class Genre:
    name: str | None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class MediaType:
    name: str | None
    id: int | None = None


class Track(BaseModel):
    id: int | None = None
    name: str
    album_id: int | None = None
    media_type_id: int
    genre_id: int | None = None
    composer: str | None = None
    milliseconds: int
    bytes: int | None = None
    unit_price: Decimal


@attrs.frozen
class Playlist:
    name: str | None = None
    id: int | None = None


@dataclass(frozen=True)
class PlaylistTrack:
    playlist_id: int
    track_id: int


@dataclass
class Employee:
    last_name: str
    first_name: str
    title: str | None = None
    reports_to: int | None = None
    birth_date: datetime | None = None
    hire_date: datetime | None = None
    address: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    postal_code: str | None = None
    phone: str | None = None
    fax: str | None = None
    email: str | None = None
    id: int | None = None


class Customer(BaseModel):
    id: int | None = None
    first_name: str
    last_name: str
    company: str | None = None
    address: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    postal_code: str | None = None
    phone: str | None = None
    fax: str | None = None
    email: str
    support_rep_id: int | None = None


class Invoice(BaseModel):
    id: int | None = None
    customer_id: int
    invoice_date: datetime
    billing_address: str | None = None
    billing_city: str | None = None
    billing_state: str | None = None
    billing_country: str | None = None
    billing_postal_code: str | None = None
    total: Decimal


class InvoiceLine(BaseModel):
    id: int | None = None
    invoice_id: int
    track_id: int
    unit_price: Decimal
    quantity: int


class TrackQuery(QueryObject[Track]):
    name_icontains: str | None = None
    composer_is_null: bool | None = None
    genre_id_in: list[int] | None = None
    milliseconds_between: tuple[int, int] | None = None
    unit_price_le: Decimal | None = None


class CustomerQuery(QueryObject[Customer]):
    last_name_istartswith: str | None = None
    country: str | None = None
    company_is_null: bool | None = None
    support_rep_id_ne: int | None = None


class InvoiceQuery(QueryObject[Invoice]):
    customer_id: int | None = None
    invoice_date_ge: datetime | None = None
    total_gt: Decimal | None = None
    billing_country_not_in: list[str] | None = None
