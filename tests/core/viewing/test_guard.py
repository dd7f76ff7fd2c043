"""Who may look: the guard before the server, asked as a server asks it."""

import asyncio

import pytest
from univseg_core.errors import UnivsegError
from univseg_core.viewing.guard import Guard, listening

PORT, TOKEN = 4321, 'a-token'
HOST, COOKIE = (b'host', b'127.0.0.1:4321'), (b'cookie', b'univseg_view_4321=a-token')


def ask(*headers, query=b'', kind='http'):
    """Return what is sent for a request, and whether it came through."""
    sent, through = [], []

    async def app(scope, receive, send):
        through.append(scope['type'])
        await send({'type': f'{scope["type"]}.response.start', 'headers': [(b'a', b'b')]})

    async def send(message):
        sent.append(message)

    scope = {'type': kind, 'headers': list(headers), 'query_string': query}
    asyncio.run(Guard(app, TOKEN, PORT)(scope, None, send))
    return sent, bool(through)


def test_the_token_of_the_address_lets_in_and_is_kept_as_a_cookie():
    (start,), through = ask(HOST, query=b'token=a-token')
    assert through
    assert start['headers'] == [(b'a', b'b'), (b'set-cookie', b'univseg_view_4321=a-token; '
                                               b'Path=/; HttpOnly; SameSite=Strict')]


@pytest.mark.parametrize('kind', ['http', 'websocket'])
def test_the_cookie_lets_in_whatever_others_there_are(kind):
    (start,), through = ask(HOST, (b'cookie', b'x={"odd": [1]}; univseg_view_4321=a-token; y'),
                            (b'origin', b'http://127.0.0.1:4321'), kind=kind)
    assert through
    assert start['headers'] == [(b'a', b'b')]


@pytest.mark.parametrize(('headers', 'query'), [
    ([HOST], b''),
    ([HOST], b'token=another'),
    ([HOST], b'token='),
    ([HOST, (b'cookie', b'univseg_view_4321=another')], b''),
    ([HOST, (b'cookie', b'univseg_view_9999=a-token')], b''),
    ([HOST, (b'cookie', b'univseg_view_4321=\xff')], b'token=\xff'),
    ([(b'host', b'evil.example:4321'), COOKIE], b'token=a-token'),  # a name that leads here
    ([(b'host', b'127.0.0.1'), COOKIE], b''),
    ([COOKIE], b'token=a-token'),
    ([HOST, COOKIE, (b'origin', b'http://127.0.0.1:8000')], b''),  # another server's page
    ([HOST, COOKIE, (b'origin', b'https://evil.example')], b'token=a-token'),
    ([HOST, COOKIE, (b'origin', b'null')], b'')])
def test_all_else_is_refused(headers, query):
    (start, body), through = ask(*headers, query=query)
    assert not through
    assert start['status'] == 403
    assert b'token' in body['body']
    (close,), through = ask(*headers, query=query, kind='websocket')
    assert not through
    assert close == {'type': 'websocket.close', 'code': 1008}


def test_the_servers_own_beginning_and_end_come_through():
    assert ask(kind='lifespan')[1]


def test_it_listens_on_loopback_and_a_port_in_use_is_one_sentence():
    with listening(0) as found:
        host, port = found.getsockname()
        assert host == '127.0.0.1'
        with pytest.raises(UnivsegError, match=f'port {port} of 127.0.0.1: Address already in '
                                               'use; choose another --port'):
            listening(port)
