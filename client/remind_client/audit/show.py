"""Format an entry of the audit log as one line for people."""

from remind_client.audit.chain import Entry


def to_text(entry: Entry) -> str:
    """Return one line of text; groups and tensors are abbreviated."""
    head = f"{entry['sequence']:>6}  {entry['time'][:19]}Z  {entry['event']:<9}"
    return f"{head} {_content(entry)}".rstrip()


def _content(entry: Entry) -> str:
    round_of = f", round {entry['round']}" if entry.get("round") is not None else ""
    match entry["event"]:
        case "asked":
            return f"run {entry['run']}: {entry['request']}{round_of}, {entry['app']}, bundle {entry['bundle'][:16]}"
        case "answered":
            size = sum(tensor["bytes"] for tensor in entry["tensors"])
            groups = "; ".join(
                f"{part}: " + (", ".join(f"group {k}: {n}" for k, n in counts.items()) or "none")
                for part, counts in entry["groups"].items()
            )
            tensors = f"{len(entry['tensors'])} tensors, {size} bytes; " if entry["tensors"] else ""
            return f"run {entry['run']}: {entry['answer']}{round_of}: {tensors}{groups}"
        case "refused":
            return f"run {entry['run']}: {entry['request']}{round_of}: {entry['reason']}"
        case "policy":
            return f"{entry['before'][:16] or 'none'} → {entry['after'][:16]}"
    chain = {"sequence", "time", "event", "previous", "hash"}
    return ", ".join(f"{name} {value}" for name, value in sorted(entry.items()) if name not in chain)
