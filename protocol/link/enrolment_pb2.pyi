from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOIN_STATE_UNSPECIFIED: _ClassVar[JoinState]
    JOIN_STATE_WAITING: _ClassVar[JoinState]
    JOIN_STATE_APPROVED: _ClassVar[JoinState]
JOIN_STATE_UNSPECIFIED: JoinState
JOIN_STATE_WAITING: JoinState
JOIN_STATE_APPROVED: JoinState

class AuthorityRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class AuthorityReply(_message.Message):
    __slots__ = ("version", "certificate", "time_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    certificate: bytes
    time_ms: int
    def __init__(self, version: _Optional[int] = ..., certificate: _Optional[bytes] = ..., time_ms: _Optional[int] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("version", "site", "nonce", "request", "public_identity", "signature")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    version: int
    site: str
    nonce: bytes
    request: bytes
    public_identity: bytes
    signature: bytes
    def __init__(self, version: _Optional[int] = ..., site: _Optional[str] = ..., nonce: _Optional[bytes] = ..., request: _Optional[bytes] = ..., public_identity: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("state", "coordinator_identity", "certificate", "link_address", "retry_s", "time_ms")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    LINK_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RETRY_S_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    state: JoinState
    coordinator_identity: bytes
    certificate: bytes
    link_address: str
    retry_s: int
    time_ms: int
    def __init__(self, state: _Optional[_Union[JoinState, str]] = ..., coordinator_identity: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., link_address: _Optional[str] = ..., retry_s: _Optional[int] = ..., time_ms: _Optional[int] = ...) -> None: ...

class ChallengeRequest(_message.Message):
    __slots__ = ("version", "site")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    version: int
    site: str
    def __init__(self, version: _Optional[int] = ..., site: _Optional[str] = ...) -> None: ...

class ChallengeReply(_message.Message):
    __slots__ = ("challenge", "time_ms")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    time_ms: int
    def __init__(self, challenge: _Optional[bytes] = ..., time_ms: _Optional[int] = ...) -> None: ...

class ProofRequest(_message.Message):
    __slots__ = ("version", "site", "challenge", "request", "signature")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    version: int
    site: str
    challenge: bytes
    request: bytes
    signature: bytes
    def __init__(self, version: _Optional[int] = ..., site: _Optional[str] = ..., challenge: _Optional[bytes] = ..., request: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("version", "request")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    version: int
    request: bytes
    def __init__(self, version: _Optional[int] = ..., request: _Optional[bytes] = ...) -> None: ...

class CertificateReply(_message.Message):
    __slots__ = ("certificate", "time_ms")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    time_ms: int
    def __init__(self, certificate: _Optional[bytes] = ..., time_ms: _Optional[int] = ...) -> None: ...
