"""Random edits and questions of aggregates against a model in plain Python, on every backend.

A few seconds of them run in the suite; ``SQLREPO_TEST_RANDOM_SECONDS=600`` makes it ten minutes, of other seeds each
time.
"""

import os
import random
import time
from collections import Counter
from copy import deepcopy
from typing import Annotated, Literal, get_args

import pytest
from pydantic import BaseModel

from sqlrepo import (
    InvalidValueError,
    NotFoundError,
    QueryObject,
    StaleEntityError,
    Summary,
    Where,
    every,
    exists,
    fields,
    in_,
    matches,
    not_,
    some,
    via,
)
from tests.units.cargo import (
    Base,
    Cargo,
    Depot,
    Dims,
    Filling,
    Item,
    Label,
    Line,
    Mark,
    Port,
    Seal,
    Star,
    canonical,
)
from tests.units.domain import changed, database

LONG = float(os.environ.get("SQLREPO_TEST_RANDOM_SECONDS", "0"))


ORDERS = Literal["id", "-id", "rank", "-rank", "-name,rank", "port_id__country", "-port_id__country"]


class Slice(QueryObject[Cargo]):
    limit: int = 3
    offset: int = 0
    order_by: ORDERS = "id"
    asked: Annotated[object, Where(lambda _, criterion: criterion)] = None


class PortView(BaseModel):
    country: str | None


class CargoView(BaseModel):
    id: int
    port: PortView | None
    lines: list[Line]
    lines__count: int
    lines__qty_sum: int | None


class ByCountry(Summary[Cargo]):
    port_id__country: str | None
    count: int
    lines__qty_sum: int | None


PARTS = ("lines", "notes", "marks", "items", "seal", "tags", "label_ids")
PLAIN = ("name", "rank", "port_id", "dims")


def total(lines):
    given = [line.qty for line in lines if line.qty is not None]
    return sum(given) if given else None


# -- questions, each with its answer: a function of an entity that returns True, False or None for unknown


def both(one, other):
    return False if False in (one, other) else None if None in (one, other) else True


def either(one, other):
    return True if True in (one, other) else None if None in (one, other) else False


def negated(one):
    return None if one is None else not one


COMPARISONS = {
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    ">=": lambda one, other: one >= other,
}


class Asker:
    """Makes random criteria: pairs of a function of `fields` and a function of an entity."""

    def __init__(self, dice, world):
        self.dice = dice
        self.world = world
        self.elsewhere = False  # the last question was about other roots too

    def value(self, read, given):
        """Ask about one value."""
        kind = self.dice.choice([*COMPARISONS, "in", "null"])
        if kind == "null":
            return (lambda o: read(o)[0] == None), (lambda e: read(e)[1] is None)  # noqa: E711
        if kind == "in":
            some_ = self.dice.sample(given, self.dice.randrange(1, 3))
            return (lambda o: in_(read(o)[0], some_)), (lambda e: None if read(e)[1] is None else read(e)[1] in some_)
        compare, literal = COMPARISONS[kind], self.dice.choice(given)
        return (
            lambda o: compare(read(o)[0], literal),
            lambda e: None if read(e)[1] is None else compare(read(e)[1], literal),
        )

    def attribute(self, name, given):
        return self.value(lambda one: (getattr(one, name), getattr(one, name)), given)

    def inside(self, name, inner, given):
        """Ask about a field of a value object or of a single child."""
        make, _ = pair = self.attribute(inner, given)
        return (lambda o: make(some(getattr(o, name)))), (
            lambda e: pair[1](getattr(e, name)) if getattr(e, name) is not None else pair[1](Nothing())
        )

    def children(self, name, about):
        """Ask about children, which `about` makes a criterion for."""
        kind = self.dice.choice(["exists", "exists", "every", "any"])
        if kind == "any":
            return (lambda o: exists(getattr(o, name))), (lambda e: bool(getattr(e, name)))
        make, test = self.combined(about, 1)
        ask, holds = (exists, any) if kind == "exists" else (every, all)
        return (lambda o: ask(getattr(o, name), make)), (lambda e: holds(test(one) is True for one in getattr(e, name)))

    def itself(self, given):
        return self.value(lambda one: (one, one), given)

    def combined(self, about, depth):
        kind = self.dice.choice(["plain", "and", "or", "not"]) if depth else "plain"
        make, test = about()
        if kind == "plain":
            return make, test
        if kind == "not":
            return (lambda o: not_(make(o))), (lambda e: negated(test(e)))
        other, known = self.combined(about, depth - 1)
        if kind == "and":
            return (lambda o: make(o) & other(o)), (lambda e: both(test(e), known(e)))
        return (lambda o: make(o) | other(o)), (lambda e: either(test(e), known(e)))

    def line(self):
        return self.dice.choice(
            [
                lambda: self.attribute("sku", list("abcd")),
                lambda: self.attribute("qty", [1, 2, 3]),
                lambda: self.children("serials", lambda: self.itself(list("pqr"))),
            ]
        )()

    def port(self, key):
        """Ask about the row behind a key, which is NULL if it is out of scope."""
        seen = lambda e: self.world.ports.get(getattr(e, key)) or Nothing()  # noqa: E731
        visible = lambda e: Nothing() if seen(e).hidden else seen(e)  # noqa: E731
        make, test = self.attribute("country", ["NO", "SE", "DK"])
        return (lambda o: make(via(getattr(o, key), Port))), (lambda e: test(visible(e)))

    def label(self):
        make, test = self.attribute("name", list("klm"))
        return (lambda key: make(via(key, Label))), (lambda key: test(self.world.labels[key]))

    def star(self):
        make, test = self.combined(lambda: self.attribute("who", [1, 2, 3]), 1)
        stars = lambda e: [one for one in self.world.stars if one.cargo_id == e.id]  # noqa: E731
        if self.dice.random() < 0.5:
            return (lambda o: exists(Star, lambda s: (s.cargo_id == o.id) & make(s))), (
                lambda e: any(test(one) is True for one in stars(e))
            )
        return (lambda o: every(Star, lambda s: (s.cargo_id == o.id) & make(s))), (
            lambda e: all(test(one) is True for one in stars(e))
        )

    def atom(self):
        choices = [
            lambda: self.attribute("name", list("abc")),
            lambda: self.attribute("rank", [1, 2, 3]),
            lambda: self.inside("dims", "width", [1, 2, 3]),
            lambda: self.inside("dims", "height", [1, 2, 3]),
            lambda: self.inside("seal", "code", list("abc")),
            lambda: self.inside("seal", "level", [1, 2, 3]),
            lambda: self.children("lines", self.line),
            lambda: self.children("lines", self.line),
            lambda: self.children("notes", lambda: self.itself(list("nmo"))),
            lambda: self.children("marks", lambda: self.attribute("weight", [1, 2, 3])),
            lambda: self.children("items", lambda: self.attribute("size", [1, 2, 3])),
            lambda: self.children("tags", lambda: self.itself(list("xyz"))),
            lambda: self.children("label_ids", lambda: self.itself([1, 2, 3])),
        ]
        elsewhere = [lambda: self.port("port_id"), lambda: self.children("label_ids", self.label), self.star]
        number = self.dice.randrange(len(choices) + len(elsewhere))
        self.elsewhere |= number >= len(choices)
        return [*choices, *elsewhere][number]()

    def ask(self):
        self.elsewhere = False
        make, test = self.combined(self.atom, 2)
        return make(fields(Cargo)), test


class Nothing:
    """A row that is not there: all its fields are NULL."""

    def __getattr__(self, name):
        return None


# -- the model


class World:
    def __init__(self):
        self.cargos = {}
        self.gone = []
        self.stale = []
        self.ports = {}
        self.labels = {}
        self.stars = []

    def snapshot(self):
        return deepcopy((self.cargos, self.gone, self.stars))

    def restore(self, snapshot):
        self.cargos, self.gone, self.stars = snapshot


STEPS = ["add", "add_many", *["update"] * 3, "save", *["patch"] * 2, "upsert", "upsert_many", "remove", "delete"]
STEPS += ["delete_where", "update_where", "stale", "steal", "star", "move", "missing"]


class UndoError(Exception):
    """Rolls back."""


class Game:
    def __init__(self, db, seed):
        self.db = db
        self.dice = random.Random(seed)  # no secret
        self.world = World()
        self.numbers = iter(range(1, 10**9))
        self.log = []
        with Filling(db) as filling:
            ports = [Port(country=one, hidden=one == "DK") for one in ["NO", "SE", "DK", None]]
            self.world.ports = {one.id: one for one in filling.ports.add_many(ports)}
        with Depot(db) as depot:
            given = [Label(name=name) for name in ["k", "l", "m", None]]
            self.world.labels = {one.id: one for one in depot.labels.add_many(given)}

    def play(self, units):
        for _ in range(units):
            before = self.world.snapshot()
            try:
                with Depot(self.db) as depot:
                    for _ in range(self.dice.randrange(1, 8)):
                        self.step(depot)
                    self.undo(0.2)
            except UndoError:
                self.world.restore(before)
            with Depot(self.db) as depot:
                self.check(depot)

    def step(self, depot):
        before = self.world.snapshot()
        name = self.dice.choice(STEPS)
        self.log.append(name)
        try:
            with depot.savepoint():
                getattr(self, name)(depot.cargos if name != "star" else depot.stars)
                if self.dice.random() < 0.3:
                    self.check(depot)
                self.undo(0.1)
        except UndoError:
            self.world.restore(before)

    def undo(self, probability):
        if self.dice.random() < probability:
            raise UndoError

    # -- random values

    def number(self):
        return self.dice.choice([None, 1, 2, 3])

    def text(self, letters="abc"):
        return self.dice.choice(letters)

    def many(self, letters, at_most=4):
        return self.dice.choices(letters, k=self.dice.randrange(at_most))

    def new_line(self):
        return Line(sku=self.text(), qty=self.number(), serials=frozenset(self.many("pqr", 3)))

    def edited(self, cargo, names):
        """Return other values for some fields."""
        return {name: getattr(self, f"make_{name}")(getattr(cargo, name)) for name in names}

    def make_name(self, _):
        return self.text()

    def make_rank(self, _):
        return self.number()

    def make_port_id(self, _):
        return self.dice.choice([None, *self.world.ports])

    def make_dims(self, _):
        return self.dice.choice([None, Dims(width=self.dice.randrange(4), height=self.number())])

    def make_lines(self, given):
        found = self.shuffled(given, self.new_line)
        return [changed(self.new_line(), id=one.id) if self.dice.random() < 0.3 else one for one in found]

    def make_notes(self, given):
        return tuple(self.shuffled(given, lambda: self.text("nmo")))

    def make_marks(self, given):
        return self.shuffled(given, lambda: Mark(code=self.text(), weight=self.number()))

    def make_items(self, given):
        kept = self.shuffled(given, lambda: Item(id=next(self.numbers)))
        return [changed(one, size=self.number()) if self.half() else one for one in kept]

    def make_seal(self, given):
        seal = self.dice.choice([None, given, Seal(code=self.text())])
        return seal and changed(seal, level=self.number())

    def make_tags(self, _):
        return frozenset(self.many("xyz"))

    def make_label_ids(self, _):
        return set(self.many(list(self.world.labels)))

    def half(self):
        return self.dice.random() < 0.5

    def shuffled(self, given, make):
        kept = [one for one in given if self.dice.random() < 0.8]
        if self.half():
            self.dice.shuffle(kept)
        for _ in range(self.dice.randrange(3)):
            kept.insert(self.dice.randrange(len(kept) + 1), make())
        return kept

    def some_fields(self):
        return [name for name in (*PLAIN, *PARTS) if self.dice.random() < 0.4]

    def new(self):
        cargo = Cargo()
        return changed(cargo, **self.edited(cargo, [*PLAIN, *self.some_fields()]))

    def any(self):
        return self.dice.choice(list(self.world.cargos.values())) if self.world.cargos else None

    # -- what is written, and what must come back

    def keep(self, given, stored, version):
        """Compare what a call gave back with what it was given, and take it into the model."""
        wanted, found = canonical(given, ids=False), canonical(stored, ids=False)
        wanted.update(id=given.id or stored.id, version=version)
        assert found == wanted
        others = {one.id for cargo in self.world.cargos.values() if cargo.id != stored.id for one in cargo.lines}
        for one, line in zip(given.lines, stored.lines, strict=True):
            assert line.id == one.id or (one.id is None and line.id not in others)
        assert len({line.id for line in stored.lines}) == len(stored.lines)
        if stored.id in self.world.cargos:
            self.world.stale.append(deepcopy(self.world.cargos[stored.id]))
        self.world.cargos[stored.id] = deepcopy(stored)

    def drop(self, key):
        self.world.gone.append(self.world.cargos.pop(key))
        self.world.stars = [one for one in self.world.stars if one.cargo_id != key]

    def add(self, cargos):
        given = self.new()
        self.keep(given, cargos.add(given), 1)

    def add_many(self, cargos):
        given = [self.new() for _ in range(self.dice.randrange(4))]
        for one, stored in zip(given, cargos.add_many(given), strict=True):
            self.keep(one, stored, 1)

    def update(self, cargos):
        if cargo := self.any():
            given = changed(cargo, **self.edited(cargo, self.some_fields()))
            self.keep(given, cargos.update(given), cargo.version + 1)

    def save(self, cargos):
        if (cargo := self.any()) and self.half():
            given = changed(cargo, **self.edited(cargo, self.some_fields()))
            self.keep(given, cargos.save(given), cargo.version + 1)
        elif self.half() and (gone := [one for one in self.world.gone if one.id not in self.world.cargos]):
            given = changed(self.new(), id=self.dice.choice(gone).id, version=1)
            self.keep(given, cargos.save(given), 1)
        else:
            self.add(cargos)

    def patch(self, cargos):
        if cargo := self.any():
            changes = self.edited(cargo, self.some_fields())
            if self.half():
                changes["version"] = cargo.version
            stored = cargos.patch(cargo.id, changes)
            self.keep(changed(cargo, **changes), stored, cargo.version + bool(changes.keys() - {"version"}))

    def upserted(self):
        """Return an entity, a choice of fields to update, and what must be stored."""
        cargo = self.any()
        if cargo is None or self.half():
            given = self.new()
            return given, None, given, 1
        given = changed(cargo, **self.edited(cargo, self.some_fields()), version=self.dice.randrange(1, 4))
        names = self.dice.choice([None, self.some_fields()])
        chosen = {name: getattr(given, name) for name in ((*PLAIN, *PARTS) if names is None else names)}
        return given, names, changed(cargo, **chosen), cargo.version + bool(chosen)

    def upsert(self, cargos):
        given, names, wanted, version = self.upserted()
        stored = cargos.upsert(given, on="id", update=names)
        assert stored.created == (wanted.id is None)
        self.keep(wanted, stored.entity, version)

    def upsert_many(self, cargos):
        several = {}
        for _ in range(3):
            given, names, wanted, version = self.upserted()
            several[given.id or object()] = (given, wanted, version, names)
        several = [one for one in several.values() if one[3] is None]
        stored = cargos.upsert_many([one[0] for one in several], on="id")
        for (_, wanted, version, _), one in zip(several, stored, strict=True):
            self.keep(wanted, one, version)

    def remove(self, cargos):
        if cargo := self.any():
            cargos.remove(cargo)
            self.drop(cargo.id)

    def delete(self, cargos):
        if cargo := self.any():
            cargos.delete(cargo.id)
            self.drop(cargo.id)

    def delete_where(self, cargos):
        criterion, test = Asker(self.dice, self.world).ask()
        criterion &= fields(Cargo).rank == 1
        gone = [one.id for one in self.world.cargos.values() if test(one) is True and one.rank == 1]
        assert cargos.delete_where(criterion) == len(gone)
        for key in gone:
            self.drop(key)

    def update_where(self, cargos):
        criterion, test = Asker(self.dice, self.world).ask()
        found = [one for one in self.world.cargos.values() if test(one) is True]
        rank = self.number()
        assert cargos.update_where(criterion, set_={"rank": rank}) == len(found)
        for one in found:
            self.world.cargos[one.id] = changed(one, rank=rank, version=one.version + 1)

    def stale(self, cargos):
        """A stale copy never wins, whatever part of it is other."""
        old = [
            one for one in self.world.stale
            if one.id in self.world.cargos and one.version != self.world.cargos[one.id].version
        ]  # fmt: skip
        if old:
            one = self.dice.choice(old)
            given = changed(one, **self.edited(one, self.dice.sample(PARTS, 1)))
            calls = [cargos.update, cargos.save, cargos.remove]
            write = self.dice.choice([*calls, lambda _: cargos.patch(one.id, {"lines": [], "version": one.version})])
            with pytest.raises(StaleEntityError):
                write(given)
            raise UndoError

    def steal(self, cargos):
        """Another owner's child is refused, by the key that the database generates and by one of the application."""
        owners = [one for one in self.world.cargos.values() if one.lines or one.items]
        victim = self.dice.choice(owners) if owners else None
        thieves = [one for one in self.world.cargos.values() if victim and one.id != victim.id]
        if not thieves:
            return
        thief = self.dice.choice(thieves)
        name = "lines" if victim.lines and (not victim.items or self.half()) else "items"
        given = changed(thief, **{name: [*getattr(thief, name), self.dice.choice(getattr(victim, name))]})
        write = self.dice.choice([cargos.update, cargos.save, lambda one: cargos.upsert(one, on="id")])
        with pytest.raises(InvalidValueError) as caught:
            write(given)
        assert caught.value.field == f"{name}[{len(getattr(thief, name))}].id"
        raise UndoError

    def move(self, cargos):
        """A child with a key of the application may change its owner, in two steps."""
        owners = [one for one in self.world.cargos.values() if one.items]
        if len(self.world.cargos) > 1 and owners:
            old = self.dice.choice(owners)
            item = old.items[0]
            given = changed(old, items=old.items[1:])
            self.keep(given, cargos.update(given), old.version + 1)
            new = self.dice.choice([one for one in self.world.cargos.values() if one.id != old.id])
            given = changed(new, items=[item, *new.items])
            self.keep(given, cargos.update(given), new.version + 1)

    def missing(self, cargos):
        gone = [one for one in self.world.gone if one.id not in self.world.cargos]
        if gone:
            one = self.dice.choice(gone)
            write = self.dice.choice([
                lambda: cargos.update(one), lambda: cargos.patch(one.id, {"lines": []}),
                lambda: cargos.remove(one), lambda: cargos.delete(one.id), lambda: cargos.get(one.id),
            ])  # fmt: skip
            with pytest.raises(NotFoundError):
                write()
            raise UndoError

    def star(self, stars):
        if cargo := self.any():
            self.world.stars.append(stars.add(Star(cargo_id=cargo.id, who=self.number())))

    # -- questions

    def check(self, depot):
        asker, cargos, world = Asker(self.dice, self.world), depot.cargos, self.world
        assert [canonical(one) for one in cargos.find(order_by="id")] == [
            canonical(world.cargos[key]) for key in sorted(world.cargos)
        ]
        criterion, test = asker.ask()
        found = [one for one in world.cargos.values() if test(one) is True]
        order = self.dice.choice(get_args(ORDERS))
        wanted = [canonical(one) for one in self.sorted(found, order)]
        self.log.append(criterion)
        assert [canonical(one) for one in cargos.find(criterion, order_by=order)] == wanted
        assert [canonical(one) for one in cargos.stream(criterion, order_by=order)] == wanted
        assert cargos.count(criterion) == len(wanted)
        assert cargos.exists(criterion) == bool(wanted)
        page = cargos.page(Slice(offset=1, asked=criterion, order_by=order), with_total=True)
        assert ([canonical(one) for one in page.items], page.total) == (wanted[1:4], len(wanted))
        after, scrolled = None, []
        while True:
            part = cargos.scroll(Slice(asked=criterion, order_by=order), after=after)
            scrolled += [canonical(one) for one in part.items]
            if (after := part.next) is None:
                break
        assert scrolled == wanted
        ids = self.dice.sample(sorted(world.cargos), min(3, len(world.cargos)))
        assert [canonical(one) for one in cargos.get_many(ids)] == [canonical(world.cargos[key]) for key in ids]
        self.check_views(cargos, criterion, found)
        if not asker.elsewhere:
            for one in world.cargos.values():
                assert matches(criterion, one) == (test(one) is True)

    def check_views(self, cargos, criterion, found):
        countries = {one.id: self.country(one) for one in found}
        views = cargos.find(criterion, order_by="id", into=CargoView)
        for one, view in zip(self.sorted(found, "id"), views, strict=True):
            assert (view.id, view.lines, view.lines__count) == (one.id, one.lines, len(one.lines))
            assert (view.port and view.port.country) == countries[one.id]
            assert view.lines__qty_sum == total(one.lines)
        assert cargos.counts(fields(Cargo).rank, criterion) == Counter(one.rank for one in found)
        for group in (groups := cargos.summarize(ByCountry, criterion)):
            inside = [one for one in found if countries[one.id] == group.port_id__country]
            assert group.count == len(inside)
            assert group.lines__qty_sum == total(line for one in inside for line in one.lines)
        assert {group.port_id__country for group in groups} == set(countries.values())

    def country(self, one):
        port = self.world.ports.get(one.port_id)
        return None if port is None or port.hidden else port.country

    def sorted(self, found, order):
        keys = order.split(",")
        keys.append("-id" if keys[-1].startswith("-") else "id")
        for key in reversed(keys):
            found = sorted(found, key=lambda one: self.sort_key(one, key.lstrip("-")), reverse=key.startswith("-"))
        return found

    def sort_key(self, one, name):
        value = self.country(one) if name == "port_id__country" else getattr(one, name)
        return (value is not None, value) if value is not None else (False,)


@pytest.mark.parametrize("seed", range(3))
def test_random_edits_and_questions_agree_with_plain_python(backend, seed):
    end = time.monotonic() + LONG
    while True:
        db = database(backend, Base)
        game = Game(db, seed)
        try:
            game.play(20 if LONG else 6)
        except BaseException as error:
            error.add_note(f"seed {seed}: {game.log[-12:]}")
            raise
        finally:
            db.dispose()
        if time.monotonic() > end:
            break
        seed = random.randrange(10**9)  # no secret
