"""What a notebook shows as HTML and a terminal, or a diff, as text."""


class Page:
    """HTML, and in words what it shows."""

    def __init__(self, data: str, text: str):
        self.data, self.text = data, text

    def _repr_html_(self) -> str:
        return self.data

    def __repr__(self) -> str:
        return self.text
