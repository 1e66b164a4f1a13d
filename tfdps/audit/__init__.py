"""The privacy audit: what an attacker finds in the samples, and in the mechanism itself."""
