"""The lab's error."""


class LabError(Exception):
    """A lab cannot run here. ``hint`` says what to install or run."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
