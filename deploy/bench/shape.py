"""How many nodes a swarm has, at how many sites, and how fast it can be at best."""

IDEALS_MAX = 6


class Shape:
    """Nodes in sites, and what a run with them is measured by."""

    def __init__(self, text, options, size):
        self.text, self.counts = text, [int(count) for count in text.split("+")]
        self.nodes, self.size = sum(self.counts), size
        slowest = min(options.mbit, options.access_mbit) if len(self.counts) > 1 else options.mbit
        self.ideal = size * 8 / (slowest * 1e6)
        # A run ends after so long, and counts as that.
        self.seconds_max = self.ideal * IDEALS_MAX
        # Every so manieth, so that they are of all sites and no more than one of them is a voter.
        fetching = list(range(1, self.nodes))
        self.killed = [fetching[at * len(fetching) // options.kill] for at in range(options.kill)]
        self.awaited = [node for node in fetching if node not in self.killed]
