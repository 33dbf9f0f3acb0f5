from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_FETCHED: _ClassVar[Stage]
    STAGE_WORKING: _ClassVar[Stage]
    STAGE_WAITING: _ClassVar[Stage]
STAGE_UNSPECIFIED: Stage
STAGE_FETCHED: Stage
STAGE_WORKING: Stage
STAGE_WAITING: Stage

class Versions(_message.Message):
    __slots__ = ("oldest", "newest", "release", "site")
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    oldest: int
    newest: int
    release: str
    site: str
    def __init__(self, oldest: _Optional[int] = ..., newest: _Optional[int] = ..., release: _Optional[str] = ..., site: _Optional[str] = ...) -> None: ...

class Agreed(_message.Message):
    __slots__ = ("version", "release", "time_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    release: str
    time_ms: int
    def __init__(self, version: _Optional[int] = ..., release: _Optional[str] = ..., time_ms: _Optional[int] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("id", "run", "kind", "size", "digest", "head")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    id: str
    run: str
    kind: str
    size: int
    digest: bytes
    head: int
    def __init__(self, id: _Optional[str] = ..., run: _Optional[str] = ..., kind: _Optional[str] = ..., size: _Optional[int] = ..., digest: _Optional[bytes] = ..., head: _Optional[int] = ...) -> None: ...

class WorkRequest(_message.Message):
    __slots__ = ("known",)
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, known: _Optional[_Iterable[str]] = ...) -> None: ...

class WorkReply(_message.Message):
    __slots__ = ("fresh", "closed")
    FRESH_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    fresh: _containers.RepeatedCompositeFieldContainer[Task]
    closed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, fresh: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., closed: _Optional[_Iterable[str]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("task", "offset")
    TASK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    task: str
    offset: int
    def __init__(self, task: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Raw(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Offering(_message.Message):
    __slots__ = ("task", "size", "digest")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    task: str
    size: int
    digest: bytes
    def __init__(self, task: _Optional[str] = ..., size: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Offered(_message.Message):
    __slots__ = ("offset", "committed")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    offset: int
    committed: bool
    def __init__(self, offset: _Optional[int] = ..., committed: _Optional[bool] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class Committed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Progress(_message.Message):
    __slots__ = ("task", "stage", "round", "doing", "done", "total")
    TASK_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DOING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    task: str
    stage: Stage
    round: int
    doing: str
    done: int
    total: int
    def __init__(self, task: _Optional[str] = ..., stage: _Optional[_Union[Stage, str]] = ..., round: _Optional[int] = ..., doing: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class Reported(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeclineRequest(_message.Message):
    __slots__ = ("task", "failure")
    TASK_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    task: str
    failure: int
    def __init__(self, task: _Optional[str] = ..., failure: _Optional[int] = ...) -> None: ...

class Declined(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HandoutRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class Handout(_message.Message):
    __slots__ = ("id", "size", "digest")
    ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    id: str
    size: int
    digest: bytes
    def __init__(self, id: _Optional[str] = ..., size: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("job", "again")
    JOB_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    job: str
    again: bool
    def __init__(self, job: _Optional[str] = ..., again: _Optional[bool] = ...) -> None: ...

class Submitted(_message.Message):
    __slots__ = ("run", "new")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    run: str
    new: bool
    def __init__(self, run: _Optional[str] = ..., new: _Optional[bool] = ...) -> None: ...

class RunsRequest(_message.Message):
    __slots__ = ("run", "late")
    RUN_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    run: str
    late: bool
    def __init__(self, run: _Optional[str] = ..., late: _Optional[bool] = ...) -> None: ...

class RunRow(_message.Message):
    __slots__ = ("run", "job", "digest", "state", "submitted", "started", "ended", "starts", "afresh", "round", "rounds", "error")
    RUN_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    AFRESH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    run: str
    job: str
    digest: str
    state: str
    submitted: float
    started: float
    ended: float
    starts: int
    afresh: int
    round: int
    rounds: int
    error: str
    def __init__(self, run: _Optional[str] = ..., job: _Optional[str] = ..., digest: _Optional[str] = ..., state: _Optional[str] = ..., submitted: _Optional[float] = ..., started: _Optional[float] = ..., ended: _Optional[float] = ..., starts: _Optional[int] = ..., afresh: _Optional[int] = ..., round: _Optional[int] = ..., rounds: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class SiteRow(_message.Message):
    __slots__ = ("site", "round", "doing", "done", "total", "at", "since")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DOING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    site: str
    round: int
    doing: str
    done: int
    total: int
    at: float
    since: float
    def __init__(self, site: _Optional[str] = ..., round: _Optional[int] = ..., doing: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., at: _Optional[float] = ..., since: _Optional[float] = ...) -> None: ...

class LateRow(_message.Message):
    __slots__ = ("site", "round", "times", "first", "last")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    site: str
    round: int
    times: int
    first: float
    last: float
    def __init__(self, site: _Optional[str] = ..., round: _Optional[int] = ..., times: _Optional[int] = ..., first: _Optional[float] = ..., last: _Optional[float] = ...) -> None: ...

class RunsReply(_message.Message):
    __slots__ = ("runs", "sites", "late")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[RunRow]
    sites: _containers.RepeatedCompositeFieldContainer[SiteRow]
    late: _containers.RepeatedCompositeFieldContainer[LateRow]
    def __init__(self, runs: _Optional[_Iterable[_Union[RunRow, _Mapping]]] = ..., sites: _Optional[_Iterable[_Union[SiteRow, _Mapping]]] = ..., late: _Optional[_Iterable[_Union[LateRow, _Mapping]]] = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ("run", "skip")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIELD_NUMBER: _ClassVar[int]
    run: str
    skip: int
    def __init__(self, run: _Optional[str] = ..., skip: _Optional[int] = ...) -> None: ...

class EventRow(_message.Message):
    __slots__ = ("at", "kind", "round", "site", "text")
    AT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    at: float
    kind: str
    round: int
    site: str
    text: str
    def __init__(self, at: _Optional[float] = ..., kind: _Optional[str] = ..., round: _Optional[int] = ..., site: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class EventsReply(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[EventRow]
    def __init__(self, events: _Optional[_Iterable[_Union[EventRow, _Mapping]]] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("run", "resume")
    RUN_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    run: str
    resume: bool
    def __init__(self, run: _Optional[str] = ..., resume: _Optional[bool] = ...) -> None: ...

class Controlled(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SitesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MemberRow(_message.Message):
    __slots__ = ("site", "state", "fingerprint", "until")
    SITE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    site: str
    state: str
    fingerprint: str
    until: float
    def __init__(self, site: _Optional[str] = ..., state: _Optional[str] = ..., fingerprint: _Optional[str] = ..., until: _Optional[float] = ...) -> None: ...

class SitesReply(_message.Message):
    __slots__ = ("sites",)
    SITES_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedCompositeFieldContainer[MemberRow]
    def __init__(self, sites: _Optional[_Iterable[_Union[MemberRow, _Mapping]]] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class LogReply(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, lines: _Optional[_Iterable[bytes]] = ...) -> None: ...
