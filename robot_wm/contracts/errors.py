"""The one exception that users are meant to read."""


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it on one line and exits with code 2.

    Args:
        problem: what is wrong, naming the thing and the value received.
        remedy: what is valid, or what to do next.
    """

    def __init__(self, problem: str, remedy: str):
        self.problem = " ".join(str(problem).split()).rstrip(".")
        self.remedy = " ".join(str(remedy).split()).rstrip(".")
        super().__init__(f"{self.problem}. {self.remedy}.")

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)  # so that it crosses from a worker process
