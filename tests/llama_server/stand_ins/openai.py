"""Stands in for a package that Debian does not have: as much of its client as llama.cpp's tests call. The real one,
in its JavaScript form, is what tests/clients is about."""
import json

import requests


class Answer:
    """A JSON object whose fields are attributes; an absent one is None."""

    def __init__(self, fields):
        self.__dict__.update({name: wrapped(value) for name, value in fields.items()})

    def __getattr__(self, name):
        return None


class APIStatusError(Exception):
    pass


def wrapped(value):
    if isinstance(value, dict):
        return Answer(value)
    if isinstance(value, list):
        return [wrapped(item) for item in value]
    return value


class Route:
    def __init__(self, url, key):
        self.url = url
        self.headers = {"Authorization": f"Bearer {key}"}

    def create(self, extra_body=None, **body):
        body.update(extra_body or {})
        response = requests.post(self.url, json=body, headers=self.headers, stream=body.get("stream", False))
        if response.status_code != 200:
            raise APIStatusError(response.text)
        return self.events(response) if body.get("stream") else wrapped(response.json())

    def events(self, response):
        for line in response.iter_lines():
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                yield wrapped(json.loads(line[len(b"data: "):]))


class OpenAI:
    def __init__(self, api_key, base_url):
        self.completions = Route(f"{base_url}/completions", api_key)
        self.embeddings = Route(f"{base_url}/embeddings", api_key)
        self.chat = Answer({})
        self.chat.completions = Route(f"{base_url}/chat/completions", api_key)
