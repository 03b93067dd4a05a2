"""What a manifest says of its ``.ann`` files: their kind, and how well they are searched."""

from collections.abc import Mapping
from typing import Any

from indexes.certificate import Certificate
from indexes.kinds import Kind, kind_of


class Promise:
    """The kind of some files, and the certificate of its knob.

    ValueError for a record that cannot be: another kind of value, a kind without files, a setting
    above all that are ever tried, which would take memory and time without end.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        fields = dict(record)
        name = fields.pop("kind", None)
        if not isinstance(name, str) or (kind := kind_of(name)).factory is None:
            raise ValueError(f"{name!r} is no kind that has files")
        self.kind: Kind = kind
        self.certificate = Certificate.from_json(fields)
        if self.certificate.knob > max(kind.knobs):
            raise ValueError(f"a setting of {self.certificate.knob} is above {max(kind.knobs)}")
