"""Who may look: whoever has the token, from this machine, from no other site's page."""

from collections.abc import Awaitable, Callable, MutableMapping
import secrets
import socket
from typing import Any
from urllib.parse import parse_qs

from univseg_core.errors import UnivsegError

HOST = '127.0.0.1'
"""Where the page is served: to this machine alone."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

REFUSED = (b'univseg view: this address needs its token; open the whole address that the command '
           b'printed\n')


class Guard:
    """
    An ASGI application that lets nothing through to `app` without the token.

    It stands in the query of the page's address (?token=…), whose answer sets it as a cookie; all
    else that the page asks for, its WebSocket too, has the cookie. What names another host than
    this machine by loopback, or comes from another origin's page, is refused with it as well: a
    page of the web cannot reach the server by a name of its own (DNS rebinding).
    """

    def __init__(self, app: Application, token: str, port: int):
        self.app = app
        self._token = token
        self._hosts = {f'{name}:{port}' for name in (HOST, 'localhost')}
        self._cookie = f'univseg_view_{port}'  # cookies know no ports

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer as ASGI has it."""
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return
        headers = {key.lower(): value.decode('latin-1') for key, value in scope['headers']}
        host = headers.get(b'host', '')
        by_address = self._is_token(parse_qs(scope['query_string'].decode('latin-1'))
                                    .get('token', [''])[0])
        if (host not in self._hosts
                or headers.get(b'origin', f'http://{host}') != f'http://{host}'
                or not (by_address or self._is_token(self._in_cookie(headers)))):
            await _refuse(scope, send)
            return

        async def with_cookie(message: Message) -> None:
            if by_address and message['type'] == 'http.response.start':
                text = f'{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict'
                message['headers'] = [*message.get('headers', ()),
                                      (b'set-cookie', text.encode())]
            await send(message)

        await self.app(scope, receive, with_cookie)

    def _in_cookie(self, headers: dict[bytes, str]) -> str:
        # By hand: http.cookies gives up all of them for one that is odd, of any server here.
        pairs = (part.partition('=') for part in headers.get(b'cookie', '').split(';'))
        return next((value for key, _, value in pairs if key.strip() == self._cookie), '')

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self._token.encode())


def listening(port: int) -> socket.socket:
    """Return a socket that listens on a port of loopback; raise UnivsegError if in use."""
    found = socket.socket()
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
        found.listen()
    except OSError as error:
        found.close()
        raise UnivsegError(f'port {port} of {HOST}: {error.strerror}; choose another --port, or '
                           'none: then a free one is taken') from error
    return found


async def _refuse(scope: Message, send: Send) -> None:
    if scope['type'] == 'websocket':
        await send({'type': 'websocket.close', 'code': 1008})
        return
    await send({'type': 'http.response.start', 'status': 403,
                'headers': [(b'content-type', b'text/plain; charset=utf-8')]})
    await send({'type': 'http.response.body', 'body': REFUSED})
