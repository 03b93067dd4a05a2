"""Checkpoints that are whole or not there, and that run nobody's code."""

import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import save


class WholeFiles(TorchCheckpointIO):
    """Lightning's checkpoints, written beside and renamed: one that fails leaves the one before."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """OSError says that the checkpoint before this one stays."""
        path = Path(path)
        fresh = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            fresh.unlink(missing_ok=True)
            kept = "the checkpoint before it stays" if path.is_file() else "there is none before it"
            raise OSError(f"cannot save {path}: {error}; {kept}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors and plain data only, whatever the caller says; ValueError for anything else."""
        try:
            loaded: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        except OSError:
            raise
        except Exception as error:  # torch has no one class for what it refuses
            first = str(error).split("\n")[0]
            raise ValueError(
                f"{path} is not a whole checkpoint of weights and plain data: {first}"
            ) from None
        return loaded
