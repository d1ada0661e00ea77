"""Managed runtimes: functions from deployment packages, in processes of their own, behind the Runtime API."""
