"""The long-running controller: wiring, threads, and everything that touches the outside."""
