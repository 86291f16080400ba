"""How safe a change of credits is before its caller is told of it."""

from enum import StrEnum


class Durability(StrEnum):
    """The copies that a change has before it is answered. Each copy costs time in every call."""

    #: One server has it. A failover may lose the newest changes.
    MEMORY = "memory"
    #: A replica has it, too. It survives the loss of the primary.
    REPLICA = "replica"
    #: It is on the disks of the server and of a replica. It survives the loss of both processes.
    DISK = "disk"
