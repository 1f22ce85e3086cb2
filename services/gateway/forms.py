"""Forms (multipart/form-data) as they arrive."""

from collections.abc import AsyncGenerator

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser


class FormParser(MultiPartParser):
    """Starlette's parser, for forms that are whole: one that breaks off raises MultiPartException."""

    _ended = False

    def on_end(self) -> None:
        """Note that the last boundary was seen."""
        self._ended = True

    async def parse(self) -> FormData:
        """Return the form. Its uploads are closed where it cannot be read."""
        self.stream = self._to_the_end(self.stream)
        return await super().parse()

    async def _to_the_end(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for part in stream:
            yield part
        if not self._ended:
            raise MultiPartException("it ends before its last boundary.")
