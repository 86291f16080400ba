"""The comparison of a schema: what counts as missing and as too much."""

from faregate.adapters.postgres.schema import Expected, Fact, compare, expected

TABLE = Fact("table", "faregate.t", "", "storage", "logged")
COLUMN = Fact("column", "c", "faregate.t", "type", "uuid")
RIGHT = Fact("table", "faregate.t", "", "rights of faregate_worker", "select")
WORKER = Fact("role", "faregate_worker", "", "state", "there")
OPTIONAL = Fact("function", "auth.uid()", "", "body", "digest")
MADE = Expected(
    required=frozenset({TABLE, COLUMN, RIGHT}),
    allowed=frozenset({TABLE, COLUMN, RIGHT, WORKER, OPTIONAL}),
)


def subjects(*found: Fact) -> list[tuple[str, str]]:
    """What is wrong with some facts: objects and aspects."""
    return [(change.subject, change.aspect) for change in compare(MADE, frozenset(found))]


def test_a_migrated_schema_has_no_differences() -> None:
    """With and without what is in some layouts alone."""
    assert compare(expected(), expected().allowed) == []
    assert subjects(TABLE, COLUMN, RIGHT, WORKER) == []


def test_a_role_that_does_not_exist_lacks_nothing() -> None:
    """An owner who may not create roles runs everything itself."""
    assert subjects(TABLE, COLUMN) == []
    assert subjects(TABLE, COLUMN, WORKER) == [
        ("table faregate.t", "rights of faregate_worker"),
    ]


def test_a_missing_table_is_one_difference() -> None:
    """Its columns and rights go without saying."""
    assert subjects(WORKER) == [("table faregate.t", "")]


def test_an_optional_object_is_as_it_is_made_or_absent() -> None:
    """One of another content is a difference."""
    other = Fact("function", "auth.uid()", "", "body", "another digest")
    assert subjects(TABLE, COLUMN, RIGHT, WORKER, other) == [("function auth.uid()", "body")]


def test_unknown_objects_are_differences_where_they_change_the_work_of_a_table() -> None:
    """A trigger does, and an index does not; a policy for an application's roles takes nothing."""
    there = TABLE, COLUMN, RIGHT, WORKER
    kinds = ("trigger", "policy", "rule", "index", "column", "constraint")
    facts = [Fact(kind, "x", "faregate.t", "definition", "y") for kind in kinds]
    assert {subject for subject, _ in subjects(*there, *facts)} == {
        "policy x on faregate.t",
        "rule x on faregate.t",
        "trigger x on faregate.t",
    }
    narrow = Fact("policy", "x", "faregate.t", "scope", "roles of the application")
    assert subjects(*there, facts[1], narrow) == []
    assert subjects(*there, Fact("trigger", "x", "public.profiles", "definition", "y")) == []
