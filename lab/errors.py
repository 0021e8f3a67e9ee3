"""What can go wrong while a lab is brought up, told with what to try."""


class LabError(Exception):
    """A lab cannot be had here. ``hint`` says what to install or run."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
