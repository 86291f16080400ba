"""The tree of errors. A refusal is a value (see `decision`), never an exception.

FaregateError
    InvalidArgumentError            a value from outside is ill-formed; nothing was written
        AmountError                 not a whole number, of the wrong sign, or out of range
        TransactionIdError          ill-formed, or outside the window in which a retry is known
    TransactionConflictError        a known transaction id came with other content
    ConfigurationError              settings contradict each other or the ledger
        UnknownTierError            one request names a tier that has no policy
    LedgerError
        LedgerUnavailableError      Redis did not answer in time
            OutcomeUnknownError     ... and the change may have happened
            UnresolvedError         it answered, but not whether this is a retry
            LedgerCorruptError      a value of the ledger cannot be read
            NodeUnavailableError    one node of a cluster did not answer; others do
        LedgerUninitialisedError    Redis is empty, closed, or of another epoch
    ArchiveUnavailableError         Postgres did not answer in time
        ShardBlockedError           ... or not for the records of one shard
        StandbyError                it is a standby in recovery
        HiddenRowsError             it does not show every row to the role of an audit
    IdentityUnavailableError        the service that identifies callers does not answer
    IdentityAnswerError             an identity function returned a value that is no identity
    JournalError                    the journal cannot be written, read, or is full
    MigrationError                  a migration cannot be applied, or was edited after it was
        SchemaDiffersError          the schema is not what the migrations make, after all repairs
        UnfitDatabaseError          the database does not fit, and nothing was changed
    EmbeddedServerError             an embedded development server cannot be started
"""

from collections.abc import Sequence

from faregate.domain.obstacle import Obstacle


class FaregateError(Exception):
    """The root of every error that Faregate raises."""


class InvalidArgumentError(FaregateError, ValueError):
    """A value from outside is ill-formed. Nothing was written."""


class AmountError(InvalidArgumentError):
    """An amount is not a whole number, has the wrong sign, or leaves the range of a balance."""


class TransactionIdError(InvalidArgumentError):
    """A transaction id is ill-formed, or outside the window in which a retry is recognised."""


class TransactionConflictError(FaregateError):
    """A known transaction id came with other content. Use a new id for a new transaction."""


class ConfigurationError(FaregateError):
    """Settings contradict each other or the ledger they point to."""


class UnknownTierError(ConfigurationError):
    """A request names a tier that has no policy. Requests of other tiers are decided."""


class LedgerError(FaregateError):
    """The live ledger cannot decide."""


class LedgerUnavailableError(LedgerError):
    """Redis did not answer in time. Nothing is charged, or it is being voided."""


class OutcomeUnknownError(LedgerUnavailableError):
    """Redis did not answer in time and the change may have happened. Retry with the same id."""


class UnresolvedError(LedgerUnavailableError):
    """The user has too many recent records to find out whether this is a retry.

    Other users are decided.
    """


class LedgerCorruptError(LedgerUnavailableError):
    """A value of the ledger cannot be read: it was overwritten, or has a newer version."""


class NodeUnavailableError(LedgerUnavailableError):
    """One node of a cluster did not answer in time. Shards on other nodes are not affected."""


class LedgerUninitialisedError(LedgerError):
    """Redis is empty, closed, or of another epoch than Postgres. It must be rebuilt."""


class ArchiveUnavailableError(FaregateError):
    """Postgres did not answer in time."""


class ShardBlockedError(ArchiveUnavailableError):
    """The records of one shard cannot be stored now. Other shards are not affected."""


class StandbyError(ArchiveUnavailableError):
    """Postgres is a standby in recovery: it may be behind, and accepts no rows."""


class HiddenRowsError(ArchiveUnavailableError):
    """Postgres does not show every row to this role, so totals would be wrong."""


class IdentityUnavailableError(FaregateError):
    """The caller cannot be identified now. The request is refused, not treated as anonymous."""


class IdentityAnswerError(FaregateError, TypeError):
    """An identity function returned a value that is neither an identity nor None."""


class JournalError(FaregateError):
    """The journal cannot be written or read, is full, or is being imported by another process."""


class MigrationError(FaregateError):
    """A migration cannot be applied, or was edited after it was applied."""


class SchemaDiffersError(MigrationError):
    """The schema differs from the migrations, even after all repairs."""


class UnfitDatabaseError(MigrationError):
    """A database cannot be migrated as it is; `obstacles` has the reasons. Nothing was changed."""

    def __init__(self, obstacles: Sequence[Obstacle]) -> None:
        super().__init__("; ".join(map(str, obstacles)))
        self.obstacles = tuple(obstacles)


class EmbeddedServerError(FaregateError):
    """An embedded development server cannot be started or did not survive."""
