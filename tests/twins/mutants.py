"""Faults planted in memory, one broken rule each, which the twins must find beside those of the contract's suite."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from sqlrepo.driver import Fetch
from sqlrepo.language.criteria import Compare, IsNull, Match, Not, OneOf, Or
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.memory.tables import Table
from tests.contract.mutants import Misread, MisreadLeaf, Mutant, leaves, negations

# -- criteria


class UnequalFindsNull(MisreadLeaf):
    """!= is true of NULL, as in Python."""

    def change(self, leaf, params):
        return Or((leaf, IsNull(leaf.ref))) if isinstance(leaf, Compare) and leaf.op == "!=" else leaf


class NotInFindsNull(Misread):
    """not_in is true of NULL."""

    def misread(self, schema, where):
        def change(negated: Not):
            return Or((negated, *(IsNull(leaf.ref) for leaf in leaves(negated.part) if isinstance(leaf, OneOf))))

        return replace(where, shape=negations(where.shape, change))


class FoldIsOfAsciiOnly(MisreadLeaf):
    """icontains knows A to Z and nothing else."""

    def change(self, leaf, params):
        return replace(leaf, case="ascii") if isinstance(leaf, Match) and leaf.case == "unicode" else leaf


class PrefixIsAPart(MisreadLeaf):
    """startswith is contains."""

    def change(self, leaf, params):
        return replace(leaf, kind="contains") if isinstance(leaf, Match) and leaf.kind == "startswith" else leaf


class TrailingBlanksDoNotCount(MisreadLeaf):
    """A text equals one with blanks behind it, as under PAD SPACE."""

    def change(self, leaf, params):
        if isinstance(leaf, Compare) and leaf.op == "==" and isinstance(params[leaf.value.index], str):
            params[leaf.value.index] = params[leaf.value.index].rstrip(" ")
        return leaf


class FieldsCompareTheOtherWay(MisreadLeaf):
    """A field against a field: the greater one is taken for the smaller."""

    def change(self, leaf, params):
        return replace(leaf, ref=leaf.other, other=leaf.ref) if hasattr(leaf, "other") else leaf


# -- order


class TiesAscendAlways(Mutant):
    """Ties are in the order of the key, whatever the direction of the last sort key."""

    def fetch(self, schema, request):
        order = tuple(replace(s, descending=False) if s.ref.name in schema.key else s for s in request.order)
        return self.driver.fetch(schema, replace(request, order=order))


class Resorted(Mutant):
    """The base of those that sort by something else than the value."""

    def by(self, value):
        raise NotImplementedError

    def fetch(self, schema, request):
        columns = tuple(schema.by_name)
        rows = self.driver.fetch(schema, Fetch(columns, request.where))
        for sort in reversed(request.order):
            place, type_ = schema.positions[sort.ref.name], schema.by_name[sort.ref.name].type
            rows.sort(
                key=lambda row: (row[place] is not None, row[place] is not None and self.by(type_.store(row[place]))),
                reverse=sort.descending,
            )
        stop = None if request.limit is None else request.offset + request.limit
        places = [schema.positions[name] for name in request.columns]
        return [tuple(row[place] for place in places) for row in rows[request.offset : stop]]


class TextSortsWithoutCase(Resorted):
    """A dictionary's order."""

    def by(self, value):
        return (value.lower(), value) if isinstance(value, str) else value


class TextSortsByUtf16(Resorted):
    """What is above U+FFFF comes before U+E000, as in languages that keep text in 16 bits."""

    def by(self, value):
        return value.encode("utf-16-be") if isinstance(value, str) else value


class FirstSortKeyOnly(Mutant):
    """An order by several fields is one by the first of them, and the key."""

    def fetch(self, schema, request):
        keys = tuple(sort for sort in request.order if sort.ref.name in schema.key)
        first = tuple(sort for sort in request.order[:1] if sort not in keys)
        return self.driver.fetch(schema, replace(request, order=(*first, *keys)))


# -- values


class Reread(Mutant):
    """The base of those that give something else than what was written."""

    def changed(self, value):
        raise NotImplementedError

    def fetch(self, schema, request):
        return [tuple(map(self.changed, row)) for row in self.driver.fetch(schema, request)]

    def insert(self, schema, columns, rows, returning):
        return [tuple(map(self.changed, row)) for row in self.driver.insert(schema, columns, rows, returning)]


class ZeroIsNegative(Reread):
    """0.0 comes back as -0.0."""

    def changed(self, value):
        return -0.0 if isinstance(value, float) and value == 0 else value


class MomentsComeInAnotherZone(Reread):
    """A moment comes back as the same one, two hours east."""

    def changed(self, value):
        aware = isinstance(value, datetime) and value.tzinfo
        return value.astimezone(timezone(timedelta(hours=2))) if aware else value


class DecimalsLoseTheirZeros(Reread):
    """1.50 comes back as 1.5."""

    def changed(self, value):
        return value.normalize() if isinstance(value, Decimal) else value


class MicrosecondsAreDropped(Reread):
    """A time is kept to the second, as DATETIME does on MariaDB."""

    def changed(self, value):
        return value.replace(microsecond=0) if hasattr(value, "microsecond") else value


class WholeFloatsAreIntegers(Reread):
    """1.0 comes back as 1, as by RETURNING on SQLite."""

    def changed(self, value):
        return int(value) if isinstance(value, float) and value.is_integer() else value


class IntegersAreFloats(Reread):
    """A large integer loses its last digits on the way through a 64-bit float."""

    def changed(self, value):
        return int(float(value)) if type(value) is int else value


# -- writing


class VersionIsNotCounted(Mutant):
    """An update leaves the version as it is."""

    def update(self, schema, columns, values, where):
        return self.driver.update(replace(schema, version=None), columns, values, where)


class UniquesAreOfOneColumn(Mutant):
    """A constraint of several columns looks at the first."""

    @staticmethod
    def demanded(schema):
        return replace(schema, uniques=tuple(replace(one, columns=one.columns[:1]) for one in schema.uniques))


class UpdatesDoNotCascade(Mutant):
    """A key that others refer to cannot change."""

    @staticmethod
    def demanded(schema):
        return replace(schema, foreign_keys=tuple(replace(one, on_update="RESTRICT") for one in schema.foreign_keys))


class DeletesDoNotCascade(Mutant):
    """A row that others refer to is deleted and the others' references are set to NULL."""

    @staticmethod
    def demanded(schema):
        keys = (replace(one, on_delete="SET NULL") for one in schema.foreign_keys)
        return replace(schema, foreign_keys=tuple(keys))


class DeletingNothingCounts(Mutant):
    """delete says that there was a row."""

    def delete(self, schema, where):
        return self.driver.delete(schema, where) or 1


class BatchKeepsWhatFits(Mutant):
    """A batch that is refused at its third row keeps the first two, even in a savepoint."""

    def insert(self, schema, columns, rows, returning):
        stored = [self.driver.insert(schema, columns, [row], returning)[0] for row in rows]
        self.driver._savepoints = {
            name: {table: changes.mark() for table, changes in self.driver._changes.items()}
            for name in self.driver._savepoints
        }
        return stored


# -- what is no driver's


def numbers_begin_again(patch):
    """A given key is not counted on from, so that a later number collides with it."""
    right = Table.take_key

    def numbered(self, given):
        return given if given is not None else right(self, None)

    patch.setattr(Table, "take_key", numbered)


def nulls_are_equal(patch):
    """A unique constraint takes two NULLs for equal."""

    def unique_values(self, row):
        return [tuple(row[self.schema.positions[name]] for name in unique.columns) for unique in self.uniques]

    patch.setattr(Table, "unique_values", unique_values)


def refusals_abort_nothing(patch):
    """A unit goes on after a refused statement, as SQLite does by itself."""
    right = InMemoryDatabase.begin

    def begin(self, transaction, *, read_only):
        patch.setattr(type(transaction), "fail", lambda self, error: None if self is transaction else fail(self, error))
        return right(self, transaction, read_only=read_only)

    from sqlrepo.driver import Transaction  # noqa: PLC0415

    fail = Transaction.fail
    patch.setattr(InMemoryDatabase, "begin", begin)


FAULTS = (numbers_begin_again, nulls_are_equal, refusals_abort_nothing)
