"""The demo's task: a support ticket in, `queue=... urgency=...` out. Texts only; needs nothing but Python.

Every text belongs to one split by a hash of itself, so what is scored was never seen in training.
"""

import random
import zlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "calibration", "eval"]

QUEUES = {
    "billing": [
        "I was charged twice for {thing}",
        "the invoice for {thing} shows the wrong amount",
        "my card was debited for {thing} although I cancelled",
        "please explain the extra fee on the bill for {thing}",
        "the discount was not applied when I paid for {thing}",
        "I need a receipt for {thing}",
        "the monthly payment for {thing} went up without notice",
    ],
    "shipping": [
        "{thing} has not arrived yet",
        "the parcel with {thing} is stuck at the depot",
        "the courier left {thing} at the wrong address",
        "tracking for {thing} has not moved since {day}",
        "when will {thing} be delivered",
        "half of the delivery with {thing} is missing",
        "please send {thing} to another address",
    ],
    "returns": [
        "I want to send {thing} back",
        "how do I return {thing}",
        "{thing} is the wrong size and I want an exchange",
        "please take {thing} back and give me my money",
        "I need a return label for {thing}",
        "I changed my mind about {thing}",
        "may I swap {thing} for another colour",
    ],
    "technical": [
        "{thing} does not turn on",
        "{thing} keeps restarting since {day}",
        "the screen of {thing} stays black",
        "{thing} makes a loud noise",
        "the firmware update of {thing} fails",
        "{thing} loses its connection every hour",
        "{thing} shows error {number}",
    ],
    "account": [
        "I cannot log in to order {thing}",
        "please change the email on my profile",
        "my password reset link is expired",
        "please delete my profile",
        "how do I add my partner to the profile",
        "the page does not accept my user name",
        "I no longer get the code on my phone to log in",
    ],
    "security": [
        "somebody else logged in as me and bought {thing}",
        "I got a suspicious mail about {thing}",
        "I think my profile was hacked",
        "there was a login from another country on {day}",
        "a stranger knows my data and ordered {thing}",
        "is this message about {thing} a fraud",
        "my phone with the login codes was stolen",
    ],
}
URGENCIES = {
    "high": [
        "This is urgent.",
        "I need an answer today.",
        "We can not work until this is solved.",
        "Please help immediately.",
    ],
    "normal": ["", "Please let me know.", "Can you look into it?", "I hope you can help."],
    "low": ["There is no hurry.", "Whenever you have time.", "It is not important.", "No rush at all."],
}
_THINGS = [
    "the router",
    "my laptop",
    "the coffee machine",
    "the headphones",
    "a desk lamp",
    "the printer",
    "my new phone",
    "the vacuum cleaner",
    "the camera",
    "the tablet",
    "the kettle",
    "an office chair",
    "the smart watch",
    "the monitor",
    "the keyboard",
    "my subscription",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "last week", "yesterday"]
_HELLOS = ["Hello,", "Hi,", "Good morning,", "Dear team,", "Hey there,", ""]
_GOODBYES = ["Thanks, {name}", "Regards, {name}", "Best wishes, {name}", "{name}", ""]
_NAMES = ["Ada", "Boris", "Chen", "Dana", "Emil", "Fatima", "Goran", "Hana", "Ivan", "Julia", "Kofi", "Lena"]

ROUTE = "Route the ticket."
REPLY = "Reply to the ticket."
LABELS = [f"queue={queue} urgency={urgency}" for queue in QUEUES for urgency in URGENCIES]

Message = dict[str, str]


@dataclass(frozen=True)
class Ticket:
    """One ticket: its text, the right answer, and the thing it is about."""

    text: str
    label: str
    thing: str


def tickets(count: int, split: Split, seed: int) -> list[Ticket]:
    """`count` different tickets of one split; the same for the same seed."""
    choice, found, seen = random.Random(f"{split}-{seed}"), list[Ticket](), set[str]()
    while len(found) < count:
        ticket = _ticket(choice)
        if split_of(ticket.text) == split and ticket.text not in seen:
            seen.add(ticket.text)
            found.append(ticket)
    return found


def split_of(text: str) -> Split:
    """The one split that a text belongs to: 80 % train, 10 % calibration, 10 % eval."""
    others: dict[int, Split] = {0: "eval", 1: "calibration"}
    return others.get(zlib.crc32(text.encode()) % 10, "train")


def conversation(system: str, text: str, answer: str | None = None) -> list[Message]:
    """Chat messages; without `answer` it ends with the user's."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]


def _ticket(choice: random.Random) -> Ticket:
    queue, urgency, thing = choice.choice(list(QUEUES)), choice.choice(list(URGENCIES)), choice.choice(_THINGS)
    complaint = choice.choice(QUEUES[queue])
    complaint = complaint.format(thing=thing, day=choice.choice(_DAYS), number=choice.randint(10, 99)) + "."
    filler = choice.choice(
        [
            "",
            "",
            f"My order number is {choice.randint(1000, 9999)}.",
            "I am a customer for years.",
            f"I wrote to you on {choice.choice(_DAYS)}.",
        ]
    )
    body = [complaint[0].upper() + complaint[1:], filler, choice.choice(URGENCIES[urgency])]
    goodbye = choice.choice(_GOODBYES).format(name=choice.choice(_NAMES))
    parts = [choice.choice(_HELLOS), *choice.sample(body, 3), goodbye]
    return Ticket(" ".join(part for part in parts if part), f"queue={queue} urgency={urgency}", thing)
