"""The server of the page: on loopback alone, behind its guard."""

import secrets

import fastapi
from nicegui import ui
from univseg_core.viewing.guard import Guard, HOST, listening
from univseg_core.viewing.page import add_page
from univseg_core.viewing.viewer import Viewer
import uvicorn

GRACE = 1
"""Seconds that open connections get at the end."""


class PageServer(uvicorn.Server):
    """
    Serves the page of a viewer on loopback; `url` has the token without which nothing is served.

    `port` is a free one where it is 0. Raises UnivsegError where it is in use. One of them can be
    made in a process.
    """

    def __init__(self, viewer: Viewer, title: str, port: int = 0):
        self._socket = listening(port)
        port = self._socket.getsockname()[1]
        token = secrets.token_urlsafe(16)
        self.url = f'http://{HOST}:{port}/?token={token}'
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        add_page(app, viewer, title)
        ui.run_with(app, title=title, dark=None, show_welcome_message=False, language='en-US',
                    favicon='🔍', gzip_middleware_factory=None)
        super().__init__(uvicorn.Config(
            Guard(app, token, port),  # type: ignore[arg-type]
            log_level='warning', access_log=False, server_header=False,
            timeout_graceful_shutdown=GRACE))

    def serve_until_ended(self) -> None:
        """Serve until a signal ends it, or another thread sets `should_exit`."""
        with self._socket:
            self.run(sockets=[self._socket])
