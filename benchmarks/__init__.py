"""Side-by-side measurements against peers; each module is a command. Numbers from one run compare, others do not."""
