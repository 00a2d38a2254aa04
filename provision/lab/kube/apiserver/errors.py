"""Failures as the API reports them: an HTTP status with a `Status` object that says who, what and why."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request cannot be carried out.

    Attributes:
        code: the HTTP status.
        reason: the machine-readable word that clients decide on ("NotFound", "Conflict", ...).
        details: further members of `Status.details`.
    """

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """The `Status` object that goes over the wire."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def bad_request(message: str) -> ApiError:
    """The request itself makes no sense: 400."""
    return ApiError(400, "BadRequest", message)


def forbidden(message: str, **details: Any) -> ApiError:
    """Understood, and refused: 403."""
    return ApiError(403, "Forbidden", message, **details)


def no_such_resource() -> ApiError:
    """The path leads to nothing that this server serves: 404."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def not_found(resource: str, group: str, name: str) -> ApiError:
    """There is no such object: 404."""
    return ApiError(
        404, "NotFound", f'{qualified(resource, group)} "{name}" not found', name=name, group=group, kind=resource
    )


def already_exists(resource: str, group: str, name: str) -> ApiError:
    """An object of that name is there already: 409."""
    message = f'{qualified(resource, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, name=name, group=group, kind=resource)


def conflict(resource: str, group: str, name: str, why: str) -> ApiError:
    """The object is not the one that the writer had seen: 409."""
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, name=name, group=group, kind=resource)


def invalid(kind: str, group: str, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """The object breaks rules of its kind: 422. Each cause is a field and what is wrong with it."""
    listed = [f"{path}: {problem}" for path, problem in causes]
    text = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    return ApiError(
        422,
        "Invalid",
        f'{qualified(kind, group)} "{name}" is invalid: {text}',
        name=name,
        group=group,
        kind=kind,
        causes=[{"reason": "FieldValueInvalid", "field": path, "message": problem} for path, problem in causes],
    )


def unprocessable(message: str) -> ApiError:
    """The patch cannot be applied to the object: 422."""
    return ApiError(422, "Invalid", message)


def expired(message: str) -> ApiError:
    """The resourceVersion is too old to go on from: 410. The client must list anew."""
    return ApiError(410, "Expired", message)


def method_not_allowed() -> ApiError:
    """The resource has no such verb: 405."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(message: str) -> ApiError:
    """The body is in a format that the server does not read: 415."""
    return ApiError(415, "UnsupportedMediaType", message)


def qualified(resource: str, group: str) -> str:
    """A resource with its group, as in "deployments.apps"; in the core group just "pods"."""
    return f"{resource}.{group}" if group else resource
