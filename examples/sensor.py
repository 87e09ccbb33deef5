#!/usr/bin/env python3
"""Tells Claude when this machine gets too hot or too busy, and prints Claude's answers."""

import argparse
import json
import os
import pathlib
import re
import socket
import sys
import time
import uuid

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

HOST = socket.gethostname()
# By name: a value is too high above the second number, until it is below the first. And its unit.
LIMITS = {"temperature": (65, 70, " °C"), "load": (2, 4, "")}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.add_argument("--url", default="ws://127.0.0.1:3100", help="the server; a token is taken from SENSOR_TOKEN")
parser.add_argument("--session", default=f"sensor-{HOST}", help="the session to talk in")
parser.add_argument("--every", type=float, default=10, help="seconds between two readings")
parser.add_argument("--pause", type=float, default=60, help="seconds between two messages, at least")
parser.add_argument("--switch", type=pathlib.Path, help="a file that gets 1 or 0 when Claude answers on or off")
parser.add_argument("--root", type=pathlib.Path, default="/", help="the folder in which proc and sys are")
options = parser.parse_args()

too_high = {}  # by name, at the last reading
reported = {}  # by name, in the last message
unacknowledged = {}  # messages without a receipt, by id
next_reading = 0
next_message = 0


def read_values():
    """Returns the load and, where there is a sensor, the highest temperature."""
    values = {"load": float((options.root / "proc/loadavg").read_text().split()[0])}
    for zone in options.root.glob("sys/class/thermal/thermal_zone*/temp"):
        try:
            temperature = int(zone.read_text()) / 1000
        except (OSError, ValueError):
            continue  # a sensor that is switched off
        values["temperature"] = max(temperature, values.get("temperature", temperature))
    return values


def describe(values):
    """Updates what is too high, and returns a message about all values."""
    states = []
    for name, value in values.items():
        low, high, unit = LIMITS[name]
        too_high[name] = value > (low if too_high.get(name) else high)
        states.append(f"{name} {value:g}{unit} ({'too high' if too_high[name] else 'all right'})")
    question = " Answer on or off to switch the fan." if options.switch else ""
    return f"{HOST}: {', '.join(states)}.{question}"


def report(server):
    """Reads the values, and sends a message if something changed and the last one is old enough."""
    global next_reading, next_message
    now = time.monotonic()
    if now < next_reading:
        return
    next_reading = now + options.every
    content = describe(read_values())
    changed = any(is_high != reported.get(name, False) for name, is_high in too_high.items())
    if changed and now >= next_message:
        next_message = now + options.pause
        reported.update(too_high)
        key = str(uuid.uuid4())
        unacknowledged[key] = json.dumps({"type": "message", "id": key, "content": content})
        server.send(unacknowledged[key])


def receive(message):
    """Handles a message of the server."""
    if message["type"] == "delivery":
        unacknowledged.pop(message["id"], None)
    elif message["type"] == "error":
        print(message["message"], flush=True)
    elif message["type"] == "reply":
        print(message["content"], flush=True)
        words = set(re.findall(r"\b(on|off)\b", message["content"].lower()))
        if options.switch and len(words) == 1:
            options.switch.write_text("1" if words == {"on"} else "0")


def run():
    """Talks to the server until the connection is lost."""
    token = os.environ.get("SENSOR_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with connect(f"{options.url}/?session={options.session}", additional_headers=headers) as server:
        for message in unacknowledged.values():
            server.send(message)  # under its old id, so that Claude gets it once
        while True:
            report(server)
            try:
                receive(json.loads(server.recv(timeout=max(0, next_reading - time.monotonic()))))
            except TimeoutError:
                pass


while True:
    try:
        run()
    except InvalidStatus as refused:
        sys.exit(f"{options.url} refuses: {refused.response.body.decode()}")
    except (OSError, ConnectionClosed) as lost:
        print(f"{options.url}: {lost}; trying again", file=sys.stderr)
        time.sleep(5)
