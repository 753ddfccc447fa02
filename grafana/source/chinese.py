"""The dashboards in Chinese: every text that a person reads, in the words of the guard's own messages."""

import re

TEXTS = {
    # Titles
    "storage-guard: fleet": "storage-guard：总览",
    "storage-guard: one guard": "storage-guard：单个守护程序",
    "storage-guard: orphans and failures": "storage-guard：孤儿录像与删除失败",
    "storage-guard": "storage-guard",
    "What to do": "处理办法",
    "Guards down": "失联的守护程序",
    "Alerts firing": "当前告警数",
    "Over the high mark": "超过高水位的卷",
    "Exhausted or blind": "无可删除或无法判断的卷",
    "Space not given back": "未释放的空间",
    "First volume full in": "最早写满的卷还剩",
    "Volumes, worst first": "各卷（最差的在前）",
    "This guard": "这个守护程序",
    "Its orphans and failures": "它的孤儿录像与删除失败",
    "Pressure": "卷的状态",
    "Pressure now": "当前状态",
    "Room above the high mark": "距高水位的余量",
    "Alerts firing now": "当前告警",
    "Inflow and given back": "写入与释放",
    "Oldest message that waits": "最久未送达的消息",
    "Guards": "守护程序",
    "Guard": "守护程序",
    "Mode": "模式",
    "Volume $volume": "卷 $volume",
    "Available space and marks": "可用空间与水位",
    "Deleted and given back": "删除与释放",
    "Seconds until full": "写满还需的时间",
    "Used by others": "其他文件占用",
    "Runs, by result": "清理次数（按结果）",
    "Run duration": "清理用时",
    "Free inodes and marks": "空闲 inode 与水位",
    "Trees": "录像目录",
    "Recordings": "录像",
    "Retention promised and achieved": "承诺与实际的保留时间",
    "Spared, by reason": "不会删除的录像（按原因）",
    "Oldest recording": "最早的录像",
    "Scan duration": "扫描用时",
    "The guard itself": "守护程序自身",
    "Age of the last probe, scan and run": "距上次探测、扫描、清理的时间",
    "Messages, by result": "消息（按结果）",
    "Configuration": "配置",
    "Deletions waiting": "等待重试的删除",
    "Oldest retry": "最久的重试",
    "Caps tripped": "触发的删除上限",
    "Leftovers": "残留文件",
    "Missing recordings": "缺失的录像",
    "Trees, worst first": "各录像目录（最差的在前）",
    "Deletions, by outcome": "删除（按结果）",
    "Failures, by cause": "删除失败（按原因）",
    "Deletions waiting, by tree": "等待重试的删除（按录像目录）",
    "Space not given back, by cause": "未释放的空间（按原因）",
    "Deletions, by trigger": "删除（按触发者）",
    "Orphans, by kind": "孤儿录像（按种类）",
    "Caps": "删除上限",
    "Uncatalogued": "未登记的录像",
    "Catalogues not trusted": "不可信的编目",
    "Catalogues": "编目",
    "Rows, by catalogue": "记录数（按编目）",
    "Missing recordings, by tree": "缺失的录像（按录像目录）",
    # Variables and annotations
    "Data source": "数据源",
    "Job": "任务",
    "Volume": "卷",
    "Tree": "录像目录",
    "Runs that ended": "清理结束",
    "Run ended: {{result}}": "清理结束：{{result}}",
    "Alerts that fire": "告警",
    # Columns
    "State": "状态",
    "Room above high": "距高水位",
    "Used": "已用",
    "Available": "可用",
    "Full in": "写满还需",
    "By others": "其他文件",
    "Severity": "级别",
    "Alert": "告警",
    "How many": "数量",
    "Answers": "应答",
    "Probed": "上次探测",
    "Scanned": "上次扫描",
    "Version": "版本",
    "Revision": "修订",
    "Loaded last": "最近加载的配置",
    "In force since": "生效时间",
    "Waiting": "等待重试",
    "Failing since": "开始失败",
    "Not given back": "未释放",
    "Missing": "缺失",
    "Bytes": "大小",
    # Values
    "normal": "正常",
    "reclaiming": "清理中",
    "exhausted": "无可删除",
    "blind": "无法判断",
    "not filling up": "不会写满",
    "no guard": "没有守护程序",
    "no volume": "没有卷",
    "no data": "没有数据",
    "no alert is firing": "没有告警",
    "no channel is configured": "没有配置通知渠道",
    "no recordings": "没有录像",
    "up": "在线",
    "down": "失联",
    "enforce": "执行",
    "observe": "观察",
    "in force": "已生效",
    "rejected": "被拒绝",
    "never": "从未",
    "none": "无",
    "tripped": "已触发",
    "not tripped": "未触发",
    "waits for a person": "等待人工确认",
    "not trusted": "不可信",
    "trusted": "可信",
    "not known": "未知",
    "no catalogue": "没有编目",
    "critical": "严重",
    "warning": "警告",
    "info": "提示",
    "–": "–",
    # Series
    "recorded": "写入",
    "given back": "释放",
    "available {{instance}}": "可用 {{instance}}",
    "low {{instance}}": "低水位 {{instance}}",
    "high {{instance}}": "高水位 {{instance}}",
    "critical {{instance}}": "临界 {{instance}}",
    "deleted {{instance}}": "删除 {{instance}}",
    "given back {{instance}}": "释放 {{instance}}",
    "free {{instance}}": "空闲 {{instance}}",
    "achieved {{tree}} {{instance}}": "实际 {{tree}} {{instance}}",
    "promised {{tree}} {{instance}}": "承诺 {{tree}} {{instance}}",
    # Descriptions of dashboards
    "All guards of a fleet: which volumes are worst, what fires, and whether space comes back.": "所有守护程序：哪些卷最差，有哪些告警，空间是否真的释放。",
    "One guard: its volumes against their marks, its runs and their ledger, its trees, and itself.": "单个守护程序：各卷与水位、清理与账目、录像目录，以及程序自身。",
    "What should not be there, what could not be deleted, and whose space did not come back.": "不该存在的、删不掉的，以及空间没有释放的录像。",
    # Descriptions of panels
    "Guards that answered Prometheus within the last week and do not now. Recording goes on without them, and nothing is deleted.": "最近一周应答过 Prometheus、现在不应答的守护程序。录像照常进行，但不会删除任何录像。",
    "Alerts that guards raise themselves. The fleet's dashboard lists them; the operations guide has a paragraph for each.": "守护程序自己发出的告警。总览中有清单，运维手册中每种告警都有说明。",
    "Volumes with less available than their exported high mark. Normal for as long as a run takes; where the guard only observes, until somebody makes room.": "可用空间低于高水位的卷。清理期间属于正常；观察模式下会持续到有人腾出空间。",
    "Exhausted: above the low mark, and nothing eligible is left to delete. Blind: the guard cannot judge the volume, and deletes nothing there. Both want a person.": "无可删除：仍高于低水位，但没有可以删除的录像。无法判断：不了解卷的状态，因此不删除。两者都需要人工处理。",
    "Bytes of recordings that were chosen, and whose space did not come back: still open, locked, failed, or shared with a snapshot. `storage-guard failures list` names files, causes and holders.": "已选定删除、但空间没有释放的录像：仍被占用、被锁定、删除失败，或与快照共享。用 `storage-guard failures list` 查看文件、原因和占用进程。",
    "When the first volume would be full if nothing were deleted, at the inflow that scans measured. A guard that enforces deletes long before; where it only observes, this is the time that is left.": "按扫描测得的写入速度，若不删除任何录像，最早写满的卷还剩多少时间。执行模式下早已开始清理；观察模式下这就是剩余时间。",
    "Every volume. *Room above high* is what is available beyond the high mark, as a share of the volume; below 0 the mark is crossed. *Used* is what `df` shows. *By others* is used by what is a recording of no tree. A blind volume shows its state only. The guard's name leads to its dashboard.": "所有卷。“距高水位”是可用空间超出高水位的部分占卷的比例，小于 0 即已越过。“已用”与 `df` 一致。“其他文件”不是任何录像目录的录像。无法判断的卷只显示状态。点守护程序的名称进入它的页面。",
    "The state of each volume. Reclaiming is the guard at work, and ends at the low mark (where it only observes, it would be at work); exhausted and blind want a person.": "每个卷的状态。清理中：守护程序正在工作，到低水位结束（观察模式下只表示本应清理）；无可删除和无法判断需要人工处理。",
    "What is available beyond the exported high mark, as a share of the volume. The dashed line at 0 is the mark: where a line falls below it, reclaiming begins. A saw-tooth is healthy; a line that stays below is not.": "可用空间超出高水位的部分占卷的比例。0 处的虚线就是高水位，低于它即开始清理。锯齿形是健康的；一直在虚线以下则不正常。",
    "Alerts that the guards themselves raise. The operations guide has a paragraph for each, with what to do.": "守护程序自己发出的告警。运维手册中写明每种告警的处理办法。",
    "What is recorded, as scans see it, against what deletions gave back, as measured on the volumes. Over some hours the two are alike on volumes that are at their marks; where inflow stays above, volumes fill.": "扫描看到的写入量，与在卷上实测的释放量。已到水位的卷，几小时内两者应大致相同；写入一直高于释放，卷就会写满。",
    "For each channel the age of the oldest message that is not delivered yet. 0 when none waits. It grows while a channel does not work: see DeliveryFailing in the operations guide.": "各通知渠道中最久未送达的消息已等待多久，没有则为 0。渠道不通时会持续增长：见运维手册 DeliveryFailing。",
    "Every guard that answered within the last week. *Configuration* is rejected if the file that was loaded last has a problem; the one before stays in force. *Probed* and *scanned* are of the volume or tree where it is longest ago.": "最近一周应答过的守护程序。最近加载的文件有错时，“配置”为被拒绝，之前的配置继续生效。“上次探测”和“上次扫描”取最久的那个卷或录像目录。",
    "Whether Prometheus reaches the guard. With several chosen: all of them.": "Prometheus 能否连上守护程序。选了多个时：是否全部连上。",
    "Enforce: recordings are deleted where a tree allows it. Observe: nothing is.": "执行：在允许的录像目录中删除录像。观察：什么都不删。",
    "The worst state of its volumes.": "它的卷中最差的状态。",
    "What a recorder can still write, and the marks as the guard exports them. Reclaiming begins when the line falls below *high*, or earlier if the volume would soon be full (`full_within`), and ends above *low*; below *critical* recordings are deleted that should have been kept longer. Nothing is drawn while the volume is blind.": "录像程序还能写入的空间，以及守护程序导出的水位。低于“高水位”开始清理，若很快会写满（`full_within`）则更早；高于“低水位”结束；低于“临界”时，本应保留更久的录像也会删除。卷无法判断时没有曲线。",
    "The state of the volume. Reclaiming: the guard is at work, or would be if it did not only observe. Exhausted: nothing eligible is left. Blind: it cannot be judged, and nothing is deleted.": "卷的状态。清理中：正在清理，观察模式下只表示本应清理。无可删除：没有可以删除的录像。无法判断：不删除任何录像。",
    "The ledger. *Deleted*: allocated bytes of recordings that were looked for and are gone. *Given back*: what came back, as measured on the volume. Where they part, space is held open, shared with a snapshot, or lost: see SpaceNotReclaimed.": "账目。“删除”：经核实已不存在的录像所占的空间。“释放”：在卷上实测到的释放量。两者不一致，说明空间仍被占用、与快照共享，或去向不明：见 SpaceNotReclaimed。",
    "When the volume would be full if nothing were deleted, at the inflow that scans measured. What is longer than 30 days, or never, is drawn as 30 days.": "按扫描测得的写入速度，若不删除任何录像，卷何时写满。超过 30 天或不会写满的，画为 30 天。",
    "Used by what is a recording of no guarded tree, and by what was recorded since the last scan. The guard cannot free it; where it grows, `storage-guard status` names the largest directories.": "不属于任何录像目录的文件，以及上次扫描之后写入的录像所占的空间。守护程序无法释放它；如果持续增长，`storage-guard status` 会列出最大的目录。",
    "Runs that ended. Reached low: done. Exhausted: nothing eligible was left. Stalled: deletions gave nothing back, so the run stopped. Cancelled: by a person or the end of the program.": "已结束的清理。reached_low：降到低水位。exhausted：没有可以删除的录像。stalled：删除后空间没有释放，因此停止。cancelled：被人工取消或程序退出。",
    "How long the runs took that ended then, together. VolumePressure is raised when a run takes three times as long as the one before, and more than half an hour.": "当时结束的清理合计用时。一次清理超过半小时，并且超过上一次的三倍，会发出 VolumePressure。",
    "Inodes, and their marks as the guard exports them. 0 on filesystems that do not fix their number.": "空闲 inode，以及守护程序导出的水位。不限 inode 数的文件系统为 0。",
    "Allocated bytes of what each tree's layout recognises as a recording.": "各录像目录中录像实际占用的空间。",
    "Of the stream that is worst off in each tree: how long it is to be kept (dashed), and how far back it reaches. A young stream reaches back no further than its first recording. 0 is promised where no `keep` is configured.": "各录像目录中最差的一路流：应保留多久（虚线），实际能回看多久。新的流最多回看到它的第一个录像。没有配置 `keep` 时承诺为 0。",
    "Recordings that no plan takes. If a volume is exhausted, the reason is here.": "清理计划不会删除的录像。卷无可删除时，原因在这里。",
    "How old the oldest recording of each tree is.": "各录像目录中最早的录像距今多久。",
    "How long the scans took that ended then, on average. It grows with the number of files.": "当时结束的扫描平均用时，随文件数增长。",
    "How long ago each last succeeded, on the volume or tree where it is longest ago. Probes and scans come at their intervals; a run comes when it is needed, and is not shown before the first.": "各项上次成功距今多久，取最久的那个卷或录像目录。探测和扫描按间隔进行；清理按需进行，第一次之前不显示。",
    "Attempts to deliver alerts. Retried: it failed and comes again. Dropped: it was given up, and nobody was told.": "发送告警的次数。retried：失败，会重试。dropped：已放弃，没有人收到。",
    "Which program runs, and since when its configuration is in force. If the file that was loaded last has a problem, it is rejected, and the one before stays.": "运行的是哪个版本，配置何时生效。最近加载的文件有错时会被拒绝，之前的配置继续生效。",
    "Deletions that failed and are tried again, with growing pauses, until they succeed or a person closes them: `storage-guard failures list`.": "失败后会重试的删除，间隔逐渐变长，直到成功或被人工关闭：`storage-guard failures list`。",
    "For how long the oldest of them has been failing.": "其中最久的已失败了多长时间。",
    "The guard wanted to delete more than a cap allows, and waits for a person: `storage-guard plan`, then `storage-guard cap acknowledge`.": "要删除的超过了上限，正在等待人工确认：先看 `storage-guard plan`，再执行 `storage-guard cap acknowledge`。",
    "Unfinished or temporary files that nobody touches any more. By default they are reported, not deleted.": "没有写完、也不再有人使用的临时文件。默认只报告，不删除。",
    "Entries of a catalogue without a file, though the guard did not delete it. 0 without a catalogue.": "编目中有记录、磁盘上没有文件，而且不是守护程序删除的。没有编目时为 0。",
    "Every tree: what waits and since when, what did not come back, what is in no catalogue or left over, and whether a cap waits for a person.": "各录像目录：等待重试的删除及其开始时间、未释放的空间、未登记的录像和残留文件，以及是否有上限等待确认。",
    "Attempts to delete a recording. Verified: looked for and not found. Already gone: somebody else was first. Kept: it changed or was protected meanwhile. Failed: it is tried again.": "删除录像的次数。verified：核实已不存在。already_gone：已被别人删除。kept：期间有变化或受到保护。failed：失败，会重试。",
    "Failed attempts to delete a recording. In use and locked go away by themselves or by `chattr -i`; permission, read-only and I/O want a person.": "删除录像失败的次数。in_use 和 locked 会自行消失，或用 `chattr -i` 解除；permission、read_only 和 io 需要人工处理。",
    "Failed deletions that are tried again.": "失败后会重试的删除。",
    "Held open: deleted, and a process still has it open. Locked: immutable, or in use. Failed: the deletion failed. Shared: a snapshot or a reflink copy has the same blocks.": "held_open：已删除，但仍有进程打开着。locked：被锁定或被占用。failed：删除失败。shared：与快照或 reflink 副本共享数据块。",
    "Verified deletions, by what wanted them.": "核实成功的删除，按触发者分。",
    "Recordings that should not be there. Leftover: unfinished, and nobody touches it. Uncatalogued: it is proven that no catalogue knows it; absent without a catalogue, and before one was compared.": "不该存在的录像。leftover：没有写完，也没有人使用。uncatalogued：已证实所有编目都没有登记它；没有编目或尚未比对时不显示。",
    "Whether a cap tripped, for each tree. Until a person acknowledges, retention (`run_share`) or what is done with orphans (`orphan_share`) deletes nothing there, and with `run_share` pressure only as much as flows in.": "各录像目录是否触发了删除上限。在人工确认之前，保留策略（`run_share`）或孤儿录像的处理（`orphan_share`）不删除录像；触发 `run_share` 时，水位清理只按新录像写入的速度删除。",
    "Recordings that are proven to be in no catalogue of their tree: somebody forgot them. Nothing is shown without a catalogue, and before one was compared. `storage-guard orphans list` names them.": "已证实其录像目录的所有编目都没有登记的录像：有程序忘记了它们。没有编目或尚未比对时不显示。用 `storage-guard orphans list` 查看。",
    "Catalogues that are not believed, or were not read yet. Nothing is called an orphan by them: `storage-guard catalogue list` says why.": "不可信或尚未读取的编目，不会据此判定孤儿录像。原因见 `storage-guard catalogue list`。",
    "Whether each catalogue is believed. While it is not, nothing is called an orphan by it, and what was last known of it stays.": "各编目是否可信。不可信期间不会据此判定孤儿录像，沿用上次可信的内容。",
    "Rows for trees of the guard, when the catalogue was last read and believed. A sudden fall is what the guard does not believe (`max_drop`).": "上次可信读取时，编目中属于各录像目录的记录数。记录数突然大幅减少时，守护程序不会相信（`max_drop`）。",
    "Entries of a catalogue without a file, though the guard did not delete it: who watches such a recording gets an error.": "编目中有记录、磁盘上没有文件，而且不是守护程序删除的：播放这样的录像会出错。",
}

# Where a dashboard has texts.
TEXT_KEYS = {"title", "description", "label", "noValue", "text", "legendFormat", "titleFormat", "displayName"}


def translated(value, key="", names=frozenset()):
    """The same dashboard in Chinese, with a uid, a tag and links of its own. `names` are the columns and series of the panel."""
    if isinstance(value, dict):
        if "fieldConfig" in value:
            names = names_of(value)
        # What a variable is set to is no text.
        whole = {name: one if name == "current" else translated(one, name, names) for name, one in value.items()}
        if key == "renameByName":
            whole = {name: TEXTS[title] for name, title in value.items()}
        if "iconColor" in value:
            whole["name"] = TEXTS[value["name"]]
        return whole
    if isinstance(value, list):
        return [f"{one}-zh" if key == "tags" else translated(one, key, names) for one in value]
    if not isinstance(value, str):
        return value
    if key == "uid" and value.startswith("storage-guard"):
        return f"{value}-zh"
    if key == "url" and value.startswith("/d/"):
        return value.replace("?", "-zh?", 1).replace("fields.Guard", f"fields.{TEXTS['Guard']}")
    # A matcher may also name a value of a label, which is the same in every language.
    if (key in TEXT_KEYS and has_words(value)) or (key == "options" and value in names):
        return TEXTS[value]
    return value


def names_of(panel):
    """The names that a panel gives to its columns and series."""
    names = {target["legendFormat"] for target in panel["targets"]}
    for transformation in panel.get("transformations", []):
        names |= set(transformation["options"].get("renameByName", {}).values())
    return names


def has_words(text):
    """Whether anything is left to say when labels are taken out."""
    return any(c.isalpha() for c in re.sub(r"{{.*?}}", "", text))
