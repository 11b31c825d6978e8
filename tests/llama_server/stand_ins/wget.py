"""Stands in for a package that Debian does not have: nothing is downloaded here."""


def download(url, out=None):
    raise RuntimeError(f"{url} would have to be downloaded")
