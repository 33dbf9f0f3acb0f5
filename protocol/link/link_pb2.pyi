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
STAGE_UNSPECIFIED: Stage
STAGE_FETCHED: Stage
STAGE_WORKING: Stage

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
    __slots__ = ("id", "run", "kind", "size", "digest")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    id: str
    run: str
    kind: str
    size: int
    digest: bytes
    def __init__(self, id: _Optional[str] = ..., run: _Optional[str] = ..., kind: _Optional[str] = ..., size: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

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
