TITLE = "the sandbox"


def run(checks, machine):
    pass
