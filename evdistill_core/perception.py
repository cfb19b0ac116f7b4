"""The live pipeline: packets in, predictions out; two threads, one mailbox, all counters."""
