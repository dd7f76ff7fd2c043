"""The mailbox between the executor and the inference thread."""

import threading

from fakes import DEADLINE
from univseg_ros.mailbox import Mailbox


def test_the_newest_wins_and_the_replaced_one_is_told():
    mailbox = Mailbox()
    assert [mailbox.put('a', item) for item in (1, 2, 3)] == [False, True, True]
    assert mailbox.take() == [('a', 3)]
    assert mailbox.put('a', 4) is False
    assert mailbox.take() == [('a', 4)]


def test_take_waits_for_an_item():
    mailbox, taken = Mailbox(), []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.put('a', 'frame')
    thread.join(DEADLINE)
    assert taken == [[('a', 'frame')]]


def test_close_lets_the_waiting_thread_go():
    mailbox, taken = Mailbox(), []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()), daemon=True)
    thread.start()
    mailbox.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert taken == [[]]


def test_a_closed_mailbox_drops_what_it_held_and_what_comes():
    mailbox = Mailbox()
    mailbox.put('a', 1)
    mailbox.close()
    assert mailbox.put('a', 2) is False
    assert mailbox.take() == []


def test_between_two_threads_items_come_once_and_in_order():
    mailbox, taken, replaced = Mailbox(), [], 0

    def work():
        while items := mailbox.take():
            taken.extend(item for _, item in items)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    for item in range(1, 2001):
        replaced += mailbox.put('a', item)
    while taken[-1:] != [2000] and thread.is_alive():
        thread.join(0.01)
    mailbox.close()
    thread.join(DEADLINE)
    assert taken == sorted(set(taken))
    assert len(taken) + replaced == 2000


def test_replacing_only_takes_the_place_of_an_item_that_is_there():
    mailbox = Mailbox()
    mailbox.replace('a', 1)
    mailbox.put('a', 2)
    mailbox.replace('a', 3)
    assert mailbox.take() == [('a', 3)]
    mailbox.replace('a', 4)
    assert mailbox.close() == []


def test_keys_take_turns_however_often_one_puts():
    mailbox, taken = Mailbox(), []
    for key in 'abc':
        mailbox.put(key, 0)
    for i in range(1, 10):
        mailbox.put('a', i)
        taken += mailbox.take()
        mailbox.put('b', i)
        if i % 3 == 0:
            mailbox.put('c', i)
    assert [key for key, _ in taken] == list('abcabcabc')
    assert [item for key, item in taken if key == 'b'] == [1, 4, 7]


def test_several_are_taken_in_the_order_of_their_turns():
    mailbox = Mailbox()
    for key in 'abcd':
        mailbox.put(key, 0)
    assert mailbox.take(3) == [('a', 0), ('b', 0), ('c', 0)]
    for key in 'cba':
        mailbox.put(key, 1)
    assert mailbox.take(2) == [('d', 0), ('a', 1)]
    assert mailbox.take(9) == [('b', 1), ('c', 1)]
    mailbox.put('b', 2)
    mailbox.put('d', 2)
    assert mailbox.take(1) == [('d', 2)]
    assert mailbox.take(2) == [('b', 2)]
    mailbox.close()
    assert mailbox.take(2) == []


def test_closing_tells_whose_items_were_dropped():
    mailbox = Mailbox()
    mailbox.put('b', 1)
    mailbox.put('a', 2)
    assert mailbox.close() == ['b', 'a']
