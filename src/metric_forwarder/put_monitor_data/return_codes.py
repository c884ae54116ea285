"""The 22 return codes of the receiver, and what its document says each one means.

Source: the receiver's own document, section 7. What the forwarder *does* about a code is in ``destinations.receiver_verdicts``.
"""

from enum import IntEnum


class ReturnCode(IntEnum):
    """``code`` of a reply: 0, and 1000 to 1021."""

    OK = 0
    METHOD_NOT_SUPPORTED = 1000
    WRONG_CGI = 1001
    NOT_READY = 1002
    INTERNAL_FAILURE = 1003
    CONTENT_MISSING = 1004
    NOT_JSON = 1005
    TOO_MANY_REQUESTS = 1006
    RATE_LIMITER_FAILED = 1007
    CLIENT_BLOCKED = 1008
    PARAMETER_MISSING = 1009
    PARAMETER_TYPE = 1010
    AUTHENTICATION_FAILED = 1011
    API_RULES_BROKEN = 1012
    PARAMETER_INVALID = 1013
    ROUTING_MISSING = 1014
    DATA_TOO_LONG = 1015
    NAMESPACE_ILLEGAL = 1016
    DIMENSION_CHECK_FAILED = 1017
    TOO_MANY_METRICS = 1018
    NO_VALID_DATA = 1019
    NAME_TOO_LONG = 1020
    TIMESTAMP_ILLEGAL = 1021

    @property
    def meaning(self) -> str:
        """The meaning that the receiver's document gives, in English."""
        return _MEANINGS[self]


_MEANINGS: dict[ReturnCode, str] = {
    ReturnCode.OK: "the data was received",
    ReturnCode.METHOD_NOT_SUPPORTED: "the HTTP method is neither GET nor POST",
    ReturnCode.WRONG_CGI: "the receiver does not serve this path",
    ReturnCode.NOT_READY: "the service is not ready; retry later",
    ReturnCode.INTERNAL_FAILURE: "the receiver failed internally",
    ReturnCode.CONTENT_MISSING: "the request has no content",
    ReturnCode.NOT_JSON: "the request content is not JSON",
    ReturnCode.TOO_MANY_REQUESTS: "too many requests of this SecretId in the period",
    ReturnCode.RATE_LIMITER_FAILED: "the receiver's rate limiter failed",
    ReturnCode.CLIENT_BLOCKED: "the receiver has blocked this client",
    ReturnCode.PARAMETER_MISSING: "a parameter is missing",
    ReturnCode.PARAMETER_TYPE: "a parameter is of the wrong type",
    ReturnCode.AUTHENTICATION_FAILED: "authentication failed",
    ReturnCode.API_RULES_BROKEN: "the call breaks the API's rules",
    ReturnCode.PARAMETER_INVALID: "a parameter is invalid",
    ReturnCode.ROUTING_MISSING: "the data was dropped because routing information is missing",
    ReturnCode.DATA_TOO_LONG: "the data is longer than the limit",
    ReturnCode.NAMESPACE_ILLEGAL: "the namespace is illegal",
    ReturnCode.DIMENSION_CHECK_FAILED: "the dimensions failed the check",
    ReturnCode.TOO_MANY_METRICS: "more metrics than allowed in the period",
    ReturnCode.NO_VALID_DATA: "the request has no valid metric data",
    ReturnCode.NAME_TOO_LONG: "a dimension's or metric's name is too long",
    ReturnCode.TIMESTAMP_ILLEGAL: "the timestamp is illegal",
}
