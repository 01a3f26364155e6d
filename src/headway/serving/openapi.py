"""The OpenAPI document of the server, written by hand: what is promised, not what happens to be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway import __version__
from headway.deployment.confidence import CARRIES_NONE, Confidence
from headway.serving.bodies import MAX_TOP
from headway.serving.limits import Limits
from headway.serving.refusals import CODES

_SHARE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_COVERAGE = "The prediction set then holds the true class with at least this probability."
_UNKNOWN = "The false-alarm rate at which an image is flagged as unlike those that were learnt from."
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "sha256 of the image's bytes."}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}


def document(limits: Limits, confidence: Confidence = CARRIES_NONE) -> dict[str, Any]:
    """OpenAPI 3.1 of a server with `limits`, of a bundle that can promise what `confidence` carries."""
    secured = limits.token is not None
    schemes = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if secured else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "headway", "version": __version__, "description": "Predictions of one image classifier."},
        "paths": {
            "/predict": {"post": _predict(limits, _options(confidence), secured)},
            "/explain": {"post": _explain(limits, secured)},
            "/model": {"get": _get("What answers, and how good it was.", _json(_ref("Model")), secured)},
            "/metrics": {"get": _get("Counters, as Prometheus reads them.", _text("text/plain"), secured)},
            "/openapi.json": {"get": _get("This document.", _json({"type": "object"}), secured)},
            "/healthz": {"get": _get("Whether the process lives.", _json(_ref("Status")), False)},
            "/readyz": {"get": _get("Whether it takes requests.", _json(_ref("Status")), False, 503)},
            "/": {"get": _get("A page to try it.", _text("text/html"), False)},
            "/page.css": {"get": _get("The page's style.", _text("text/css"), False)},
            **{
                f"/{name}.js": {"get": _get("Of the page's script.", _text("text/javascript"), False)}
                for name in ("page", "words", "why")
            },
        },
        "components": {"schemas": _schemas(limits), "responses": _refusals(), **schemes},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}


def _text(kind: str) -> dict[str, Any]:
    return {kind: {"schema": {"type": "string"}}}


def _answers(*codes: int) -> dict[str, Any]:
    return {str(code): {"$ref": f"#/components/responses/{code}"} for code in codes}


# What may come of any request, whatever it asks: its head is refused, or it arrives in pieces.
_ANY = (400, 405, 408, 413, 421, 500, 503)


def _get(told: str, content: Mapping[str, Any], secured: bool, *codes: int) -> dict[str, Any]:
    refused = sorted({*_ANY, *codes, *((401,) if secured else ())})
    return {
        "summary": told,
        "responses": {"200": {"description": told, "content": dict(content)}, **_answers(*refused)},
        **({"security": [{"token": []}]} if secured else {}),
    }


def _options(confidence: Confidence) -> dict[str, dict[str, Any]]:
    """The options of a prediction, each as a schema; a level that the bundle cannot promise at all is none."""
    found: dict[str, dict[str, Any]] = {}
    if confidence.sets is not None:
        most = confidence.sets.most
        found["coverage"] = {"type": "number", "exclusiveMinimum": 0, "maximum": most, "description": _COVERAGE}
    if confidence.unknown is not None:
        least = confidence.unknown.least
        found["unknown"] = {"type": "number", "minimum": least, "exclusiveMaximum": 1, "description": _UNKNOWN}
    found["top"] = {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "description": "Classes to tell, at most."}
    return found


def _predict(limits: Limits, options: Mapping[str, dict[str, Any]], secured: bool) -> dict[str, Any]:
    told = {"200": {"description": "An answer for each image.", "content": _json(_ref("Predictions"))}}
    asked = _images(limits.max_images, options)
    return {"summary": "What is on images.", **asked, **_posted(told, secured)}


def _explain(limits: Limits, secured: bool) -> dict[str, Any]:
    about = "The class that is explained, where the model tells classes apart; without it the most likely one."
    told = {"200": {"description": "Where the evidence lies.", "content": _json(_ref("Explained"))}}
    asked = _images(1, {"class": {"type": "string", "description": about}})
    return {"summary": "Which parts of an image speak for a class.", **asked, **_posted(told, secured, 404)}


def _posted(told: Mapping[str, Any], secured: bool, *codes: int) -> dict[str, Any]:
    refused = _answers(*sorted({*_ANY, 422, 504, *codes, *((401,) if secured else ())}))
    return {"responses": {**told, **refused}, **({"security": [{"token": []}]} if secured else {})}


def _images(most: int, options: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The three forms of a request that brings images, and its options."""
    picture = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "array", "items": picture, "minItems": 1, "maxItems": most},
            **options,
        },
    }
    batch = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {
            "images": {
                "type": "array",
                "minItems": 1,
                "maxItems": most,
                "items": {"type": "string", "contentEncoding": "base64", "description": "The bytes of an image file."},
            },
            **options,
        },
    }
    return {
        "description": "The body is one image, whatever its content type says, unless that is one of the other two.",
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in options.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": picture},
                "image/*": {"schema": picture},
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": batch},
            },
        },
    }


def _refusals() -> dict[str, Any]:
    """A response for every status, with the codes that it may bear."""
    by_status: dict[int, list[str]] = {}
    for code, (status, _) in CODES.items():
        by_status.setdefault(status, []).append(code)
    return {
        str(status): {
            "description": " ".join(CODES[code][1] for code in codes),
            "content": _json(
                {
                    "type": "object",
                    "required": ["error", "request"],
                    "properties": {"error": _error(codes, message=True), "request": {"type": "string"}},
                }
            ),
            **({"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if status == 503 else {}),
        }
        for status, codes in by_status.items()
    }


def _error(codes: list[str], message: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {"code": {"type": "string", "enum": codes}}
    if message:
        properties["message"] = {"type": "string"}
    return {"type": "object", "required": list(properties), "properties": properties}


def _object(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _schemas(limits: Limits) -> dict[str, Any]:
    scored = _object({"label": {"type": "string"}, "probability": _PROBABILITY})
    bad = [code for code, (status, _) in CODES.items() if status == 422]
    return {
        "Status": _object({"status": {"const": "ok"}}),
        "Prediction": _object(
            {
                "label": {"type": "string"},
                "probability": _PROBABILITY,
                "top": {"type": "array", "minItems": 1, "items": scored},
                "digest": _DIGEST,
            },
            set={"type": "array", "minItems": 1, "items": {"type": "string"}},
            unknown=_object({"flag": {"type": "boolean"}, "rate": _PROBABILITY}),
        ),
        "Unread": _object({"error": _error(bad, message=False), "digest": _DIGEST}),
        "Predictions": _object(
            {
                "model": _object({"name": {"type": "string"}, "version": {"type": "string"}}),
                "predictions": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": limits.max_images,
                    "items": {"oneOf": [_ref("Prediction"), _ref("Unread")]},
                },
                "request": {"type": "string"},
            }
        ),
        "Explained": _object(
            {
                "model": _object({"name": {"type": "string"}, "version": {"type": "string"}}),
                "explanation": _explanation(),
                "request": {"type": "string"},
            }
        ),
        "Model": _model(),
    }


_HOW = {
    "method": {"type": "string", "enum": ["grad-cam", "cam", "roll-out"]},
    "tap": {"type": ["string", "null"], "description": "The map of the network that is looked at."},
}


def _explanation() -> dict[str, Any]:
    row = {"type": "array", "items": {"type": "number", "minimum": 0}}
    overlay = {
        "type": "string",
        "contentEncoding": "base64",
        "contentMediaType": "image/png",
        "description": "What the network saw of the image, with heat where the evidence lies.",
    }
    return _object(
        {
            "label": {"type": "string", "description": "The most likely class."},
            "class": {"type": ["string", "null"], "description": "That which is explained; null: the same for all."},
            "probability": _PROBABILITY,
            **_HOW,
            "grid": {"type": "array", "items": row, "description": "The map's values, row by row."},
            "overlay": overlay,
            "digest": _DIGEST,
        }
    )


def _model() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 1}
    interval = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    accuracy = _object({"value": {"type": "number"}}, interval={"anyOf": [interval, {"type": "null"}]}, n=count)
    default = {"default": {"type": ["number", "null"]}}
    promises = {
        "coverage": {"anyOf": [_object({"most": _SHARE, **default}), {"type": "null"}]},
        "unknown": {"anyOf": [_object({"least": _SHARE, **default}), {"type": "null"}]},
    }
    return _object(
        {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "classes": {"type": "array", "items": {"type": "string"}},
            "accuracy": {"anyOf": [accuracy, {"type": "null"}]},
            "input": count,
            "backbone": {"type": ["string", "null"]},
            "limits": _object({name: count for name in ("max_body", "max_pixels", "max_images")}),
            "promises": _object(promises),
            "explains": {"anyOf": [_object({**_HOW, "by_class": {"type": "boolean"}}), {"type": "null"}]},
            "created": {"type": "string"},
        }
    )
