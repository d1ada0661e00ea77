"""The operations, under the names of the official SDK's modules. Not a contract: each names what is inside."""
