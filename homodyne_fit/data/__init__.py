"""From files and arrays to `TwoTimeData`."""
