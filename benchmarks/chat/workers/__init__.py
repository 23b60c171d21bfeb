"""The processes that answer: a question a line on stdin, times and the answer a line on stdout."""
