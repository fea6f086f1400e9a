TITLE = "a user's daemon"


def run(checks, machine):
    pass
