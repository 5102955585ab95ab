"""Faults planted in memory, one broken rule each, which the twins must find beside those of the contract's suite."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from pydantic import BaseModel

from sqlrepo import BaseRepository, QueryObject
from sqlrepo.core import aggregates, reading, selection
from sqlrepo.core.definition import Definition
from sqlrepo.core.selection import CALL_OPTIONS
from sqlrepo.driver import Fetch
from sqlrepo.language import fields
from sqlrepo.language.criteria import (
    EVERYTHING,
    And,
    Combinable,
    Compare,
    Exists,
    IsNull,
    IsTrue,
    Match,
    Not,
    OneOf,
    Or,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.memory import compiler as memory_compiler
from sqlrepo.memory import driver as memory_driver
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


class LongestTextIsCut(Reread):
    """A text of 255 characters loses the last."""

    def changed(self, value):
        return value[:254] if isinstance(value, str) else value


class LastMomentIsRounded(Reread):
    """The last microsecond of the last year is taken for the second before."""

    def changed(self, value):
        return value.replace(microsecond=0) if isinstance(value, datetime) and value.year == 9999 else value


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


class ReferencesAreCheckedAtOnce(Mutant):
    """A foreign key that the end of the transaction should check is checked by the statement."""

    @staticmethod
    def demanded(schema):
        return replace(schema, foreign_keys=tuple(replace(one, deferred=False) for one in schema.foreign_keys))


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


def types_do_not_store_null(patch):
    """Pages by cursor go on after the entity's value, though its type stores NULL."""

    def after_row(schema, order, values):
        return selection.after_position(order, [(value, value is None) for value in values], schema.nullable)

    patch.setattr(reading, "after_row", after_row)


def count_ignores_fields_named_like_options(patch):
    right = BaseRepository.count

    def count(self, *given, **equals):
        return right(self, *given, **{name: value for name, value in equals.items() if name not in CALL_OPTIONS})

    patch.setattr(BaseRepository, "count", count)


def options_win_over_fields(patch):
    """A keyword that is an option and a field is not refused."""
    patch.setattr(Definition, "refuse_ambiguous", lambda *_, **__: None)


FAULTS = (
    count_ignores_fields_named_like_options,
    options_win_over_fields,
    numbers_begin_again,
    nulls_are_equal,
    refusals_abort_nothing,
    types_do_not_store_null,
)


# -- what both sides share, so that they agree in it


def scroll_forgets_nulls(patch):
    """A page by cursor does not continue with NULL after a value."""
    right = selection.after_position
    patch.setattr(selection, "after_position", lambda order, position, nullable: right(order, position, ()))


def misread(patch, change):
    """Change each part of a criterion before either side sees it."""

    def changed(criterion):
        match criterion:
            case And(parts) | Or(parts):
                return change(replace(criterion, parts=tuple(map(changed, parts))))
            case Not(part):
                return change(Not(changed(part)))
            case _:
                return change(criterion)

    right = selection.parametrize
    patch.setattr(selection, "parametrize", lambda criterion, *before: right(changed(criterion), *before))


def last_of_three_alternatives_is_lost(patch):
    misread(patch, lambda one: Or(one.parts[:-1]) if isinstance(one, Or) and len(one.parts) > 2 else one)


def operator_loses_the_third_alternative(patch):
    """The fault above in the operator, so that entities in Python match alike."""
    right = Combinable.__or__
    patch.setattr(Combinable, "__or__", lambda self, other: Or(right(self, other).parts[:2]))


def last_of_three_conditions_is_lost(patch):
    misread(patch, lambda one: And(one.parts[:-1]) if isinstance(one, And) and len(one.parts) > 2 else one)


def negation_of_null_is_true(patch):
    def change(one):
        refs = {leaf.ref for leaf in leaves(one.part)} if isinstance(one, Not) else ()
        return (
            Or((one, *(IsNull(ref) for ref in refs))) if refs and isinstance(one.part, Compare | OneOf | Match) else one
        )

    misread(patch, change)


def no_values_match_everything(patch):
    right = fields.one_of
    patch.setattr(fields, "one_of", lambda ref, values: right(ref, values) if list(values) else EVERYTHING)


def one_value_of_several_is_lost(patch):
    misread(patch, lambda one: replace(one, values=one.values[:-1]) if isinstance(one, OneOf) else one)


def nullable_fields_only_ascend(patch):
    right = selection._order

    def order(mapper, *given):
        sorts, lookups = right(mapper, *given)
        nullable = mapper.schema.nullable
        return tuple(replace(one, descending=False) if one.ref.name in nullable else one for one in sorts), lookups

    patch.setattr(selection, "_order", order)


def answered(patch, method, change):
    """Change what a method of repositories returns; the change gets the query object, if any, and the options."""
    right = getattr(BaseRepository, method)

    def wrong(self, *given, **options):
        query = next((one for one in given if isinstance(one, QueryObject)), None)
        return change(right(self, *given, **options), query, options)

    patch.setattr(BaseRepository, method, wrong)


def totals_are_one_too_many(patch):
    answered(patch, "page", lambda page, *_: replace(page, total=page.total and page.total + 1))


def totals_of_last_pages_are_one_too_few(patch):
    answered(patch, "page", lambda page, *_: replace(page, total=page.total and page.total - (not page.has_next)))


def totals_are_of_the_page(patch):
    answered(patch, "page", lambda page, *_: replace(page, total=page.total and len(page.items)))


def full_page_has_no_next(patch):
    answered(patch, "page", lambda page, query, _: replace(page, has_next=page.has_next and query.offset == 0))


def pages_lose_equal_rows(patch):
    def change(page, *_):
        kept = {tuple(getattr(one, name) for name in [*type(one).__annotations__][2:]): one for one in page.items}
        return replace(page, items=list(kept.values()))

    answered(patch, "page", change)


def offset_past_the_end_begins_again(patch):
    def page(self, query, **options):
        found = right(self, query, **options)
        return (
            found if found.items or not query.offset else right(self, query.model_copy(update={"offset": 0}), **options)
        )

    right = BaseRepository.page
    patch.setattr(BaseRepository, "page", page)


def last_page_has_a_cursor(patch):
    answered(patch, "scroll", lambda page, *_: replace(page, next=page.next or page.previous))


def pages_before_are_turned_round(patch):
    answered(
        patch, "scroll", lambda page, _, options: replace(page, items=page.items[:: -1 if "before" in options else 1])
    )


def count_stops_at_the_limit(patch):
    answered(patch, "count", lambda count, query, _: min(count, getattr(query, "limit", None) or count))


def count_stops_at_four(patch):
    answered(patch, "count", lambda count, *_: min(count, 4))


def first_is_the_last(patch):
    patch.setattr(BaseRepository, "first", lambda self, *given, **options: (self.find(*given, **options) or [None])[-1])


def one_of_several_is_returned(patch):
    def one_or_none(self, *given, **options):
        return (self.find(*given, **options) or [None])[0]

    patch.setattr(BaseRepository, "one_or_none", one_or_none)


def stream_has_no_order(patch):
    def stream(self, *given, order_by=None, **options):
        return right(self, *(one.criteria if isinstance(one, QueryObject) else one for one in given), **options)

    right = BaseRepository.stream
    patch.setattr(BaseRepository, "stream", stream)


def nothing_exists(patch):
    answered(patch, "exists", lambda exists, *_: False)


SHARED = (
    scroll_forgets_nulls,
    last_of_three_alternatives_is_lost,
    operator_loses_the_third_alternative,
    last_of_three_conditions_is_lost,
    negation_of_null_is_true,
    no_values_match_everything,
    one_value_of_several_is_lost,
    nullable_fields_only_ascend,
    totals_are_one_too_many,
    totals_of_last_pages_are_one_too_few,
    totals_are_of_the_page,
    full_page_has_no_next,
    pages_lose_equal_rows,
    offset_past_the_end_begins_again,
    last_page_has_a_cursor,
    pages_before_are_turned_round,
    count_stops_at_the_limit,
    count_stops_at_four,
    first_is_the_last,
    one_of_several_is_returned,
    stream_has_no_order,
    nothing_exists,
)


# -- parts


def _of_parts(patch, name, change):
    patch.setattr(aggregates.Aggregate, name, change(getattr(aggregates.Aggregate, name)))


def child_only_edits_do_not_count(patch):
    """An update that changes children alone leaves the version, on both sides."""
    right = BaseRepository._apply

    def apply(self, *given, **options):
        return right(self, *given, **{**options, "counted": False})

    patch.setattr(BaseRepository, "_apply", apply)


def filters_thin(patch):
    """A filter on children leaves out those that it is not about, on both sides."""
    right = BaseRepository.find

    def find(self, *given, **options):
        found = right(self, *given, **options)
        asked = [one.ref.name for one in given if isinstance(one, Exists)]
        return [
            one.model_copy(update={name: type(getattr(one, name))(list(getattr(one, name))[:1]) for name in asked})
            if isinstance(one, BaseModel)
            else one
            for one in found
        ]

    patch.setattr(BaseRepository, "find", find)


def every_is_true_of_null(patch):
    """A child for which the condition of every() is unknown passes, on both sides."""
    patch.setattr(fields, "IsTrue", lambda criterion: criterion)


def every_is_true_of_null_in_memory(patch):
    right = memory_driver.compile_filter

    def known(criterion):
        match criterion:
            case And(parts) | Or(parts):
                return replace(criterion, parts=tuple(map(known, parts)))
            case Not(part):
                return Not(known(part))
            case IsTrue(part):
                return known(part)
            case _:
                return criterion

    patch.setattr(memory_driver, "compile_filter", lambda schema, shape: right(schema, known(shape)))


def positions_are_swapped(patch):
    """The last two children change places."""
    right = aggregates._positions

    def positions(part, taken, had):
        found = list(right(part, taken, had))
        return [*found[:-2], *found[-2:][::-1]]

    patch.setattr(aggregates, "_positions", positions)


def removed_children_stay(patch):
    patch.setattr(aggregates, "_delete_rows", lambda *_: None)


def patches_empty_parts(patch):
    """A patch without a part takes it for empty."""

    def change(right):
        return lambda self, driver, row, given: right(self, driver, row, {part.name: [] for part in self.parts} | given)

    _of_parts(patch, "replace", change)


def counts_are_of_joined_rows(patch):
    """A summary with a measure of children counts an entity as often as it has some."""
    right = BaseRepository.summarize

    def summarize(self, summary, *criteria, **options):
        found = right(self, summary, *criteria, **options)
        joined = (
            sum(max(1, len(one.lines)) for one in self.find(*criteria))
            if hasattr(found[0], "lines__quantity_sum")
            else 0
        )
        return [one.model_copy(update={"count": joined or one.count}) for one in found]

    patch.setattr(BaseRepository, "summarize", summarize)


class ChildrenAreLeftBehind(Mutant):
    """Neither references nor their cascades are known."""

    without = "foreign_keys"


PARTS = (
    child_only_edits_do_not_count,
    filters_thin,
    every_is_true_of_null,
    every_is_true_of_null_in_memory,
    positions_are_swapped,
    removed_children_stay,
    patches_empty_parts,
    counts_are_of_joined_rows,
)


# -- what memory answers about other repositories' rows


def keys_lead_to_a_row_less(patch):
    find = memory_compiler.look_up

    def look_up(ref, params, rows_of):
        found = find(ref, params, rows_of)
        if ref.via is not None and ref.via.rows is None and params[-1]:
            params[-1].popitem()
        return found

    patch.setattr(memory_compiler, "look_up", look_up)


def groups_lose_the_last_one(patch):
    group = memory_driver.group_rows
    patch.setattr(memory_driver, "group_rows", lambda *given: group(*given)[:-1])


ELSEWHERE = (keys_lead_to_a_row_less, groups_lose_the_last_one)
