"""The windows of time in which a playbook may act at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field, RootModel

from remediator.clock import iso
from remediator.gates import Case, Gate, Snapshot
from remediator.windows import Edge, Window, open_one

if TYPE_CHECKING:
    from pydantic import BaseModel

    from remediator.model import Verdict


class Settings(RootModel[Annotated[tuple[Window, ...], Field(min_length=1, max_length=50)]]):
    """``windows: [{days: [mon, tue, wed, thu, fri], from: '09:00', to: '17:00', zone: Europe/Berlin}]``"""

    model_config = ConfigDict(frozen=True)


class OutsideWindow(Gate):
    """Refuses while none of the playbook's windows is open; for people too, who can see from it what its author thought safe."""

    name: ClassVar[str] = "outside_window"
    summary: ClassVar[str] = "one of the playbook's windows is open"
    key: ClassVar[str | None] = "windows"
    Settings: ClassVar[type[BaseModel] | None] = Settings

    def judge(self, case: Case, snapshot: Snapshot) -> Verdict:
        """See Gate."""
        settings = self.settings(case)
        if settings is None:
            return self.allow(snapshot, "the playbook sets no windows")
        found = open_one(settings.root, snapshot.at, Edge.NARROW)
        if found is None:
            return self.refuse(snapshot, f"at {iso(snapshot.at)} none is open of: {'; '.join(map(str, settings.root))}")
        return self.allow(snapshot, f"{found[0]} is open until {iso(found[1])}")
