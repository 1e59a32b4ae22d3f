"""The live page: what run folders say, for people with a browser. It reads, and holds, writes and slows nothing."""
