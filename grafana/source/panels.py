"""What a dashboard is made of: panels, variables, links, and how they are laid out."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Selectors. Every one narrows by job and instance, so that one Prometheus may hold several fleets.
GUARD = 'job=~"$job", instance=~"$instance"'
VOLUME = GUARD + ', volume=~"$volume"'
TREE = GUARD + ', tree=~"$tree"'

# Colours say how bad something is: red wants a person, orange a look, everything else is as it should be.
GOOD, WORK, LOOK, BAD, UNKNOWN, PLAIN = "green", "blue", "orange", "red", "purple", "text"

# The states of a volume as numbers, since a panel has to order them: see `state`.
STATES = {0: ("normal", GOOD), 1: ("reclaiming", WORK), 2: ("exhausted", BAD), 3: ("blind", UNKNOWN)}


def state(selector, by):
    """The state of volumes as a number of `STATES`."""

    def of(name):
        return f'sum by ({by}) (storage_guard_volume_pressure{{{selector}, state="{name}"}})'

    return f"{of('reclaiming')} + 2 * {of('exhausted')} + 3 * {of('blind')}"


def steps(*pairs):
    """Thresholds: the first colour is below all values."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in pairs]}


CALM = steps((PLAIN, None))
ANY_IS_BAD = steps((GOOD, None), (BAD, 1))
ANY_WANTS_A_LOOK = steps((GOOD, None), (LOOK, 1))


def mapping(values):
    """Values that are shown as a text, with a colour if one is given."""
    options = {}
    for index, (value, (text, color)) in enumerate(values.items()):
        options[str(value)] = {"index": index, "text": text} | ({"color": color} if color else {})
    return [{"type": "value", "options": options}]


def override(matcher, options, **properties):
    """Properties of the series that a matcher finds; `custom_x` is written as `custom.x`."""
    named = [{"id": key.replace("custom_", "custom."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": matcher, "options": options}, "properties": named}


def query(expr, legend="", **more):
    """A query over the time range of the dashboard."""
    return {"datasource": SOURCE, "editorMode": "code", "expr": expr, "legendFormat": legend, "range": True} | more


def now(expr, legend=""):
    """A query of what is so at the end of the time range."""
    return query(expr, legend) | {"instant": True, "range": False}


def rows(by, expr):
    """The same as rows of a table, with these labels only: rows of several queries become one where all labels are equal."""
    return now(f"max by ({by}) ({expr})") | {"format": "table"}


# The names of a panel's queries.
LETTERS = "ABCDEFGHIJ"


def panel(kind, title, description, targets, size, defaults, options, **more):
    """Any panel; `size` is its width, of 24, and its height."""
    for letter, target in zip(LETTERS, targets, strict=False):
        target["refId"] = letter
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "pluginVersion": "11.6.0",
        "gridPos": {"w": size[0], "h": size[1]},
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "options": options,
        "targets": targets,
    } | more


def stat(title, description, expr, unit="none", thresholds=CALM, mappings=(), none="no data"):
    """One number, coloured by its thresholds."""
    return stats(title, description, [now(expr)], unit, thresholds, mappings, none)


def stats(title, description, targets, unit="none", thresholds=CALM, mappings=(), none="no data", overrides=()):
    """Numbers side by side, each with its name if there are several."""
    defaults = {
        "unit": unit,
        "noValue": none,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds,
        "mappings": list(mappings),
    }
    options = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "vertical" if len(targets) == 1 else "auto",
        "textMode": "value" if len(targets) == 1 else "value_and_name",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("stat", title, description, targets, (4, 4), defaults, options, overrides=list(overrides))


def graph(title, description, targets, unit, size, **more):
    """Lines over time. `bars` for what is counted, `stacked` for parts of a whole, `least` to begin the axis there,
    `usual` for what it reaches to at least, so that next to nothing does not look like a mountain."""
    bars, stacked = more.pop("bars", False), more.pop("stacked", False)
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 0 if bars else 1,
        "fillOpacity": 80 if bars else (30 if stacked else 8),
        "lineInterpolation": "linear",
        "showPoints": more.pop("points", "never"),
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": more.pop("line", "off")},
    }
    defaults = {
        "unit": unit,
        "noValue": more.pop("none", "no data"),
        "color": {"mode": "palette-classic"},
        "thresholds": more.pop("thresholds", CALM),
        "mappings": [],
        "custom": custom,
    }
    usual = more.pop("usual", 4 if bars else None)
    if usual is not None:
        custom["axisSoftMax"] = usual
    least = more.pop("least", 0)
    if least is not None:
        defaults["min"] = least
    if unit == "short":
        defaults["decimals"] = 0
    options = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, targets, size, defaults, options, **more)


def timeline(title, description, targets, states, size):
    """States over time, one line for each series."""
    defaults = {
        "noValue": "no data",
        "unit": "none",
        "color": {"mode": "thresholds"},
        "thresholds": CALM,
        "mappings": mapping(states),
        "custom": {"fillOpacity": 80, "lineWidth": 0},
    }
    options = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel("state-timeline", title, description, targets, size, defaults, options)


def column(name, **properties):
    """How a column of a table is shown."""
    return override("byName", name, **properties)


def table(title, description, targets, columns, size, sort=(), overrides=(), none="–"):
    """A table. `columns` maps labels and `Value #A` … to titles, in their order; all others are left out."""
    left_out = ["Time", "job", "revision", "Value", *(f"Value #{letter}" for letter in LETTERS)]
    organize = {
        "excludeByName": {name: True for name in left_out if name not in columns},
        "indexByName": {name: index for index, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    merged = [{"id": "merge", "options": {}}] if len(targets) > 1 else []
    defaults = {
        "unit": "none",
        "noValue": none,
        "color": {"mode": "thresholds"},
        "thresholds": CALM,
        "mappings": [],
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False},
    }
    options = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [{"displayName": name, "desc": desc} for name, desc in sort],
    }
    return panel(
        "table",
        title,
        description,
        targets,
        size,
        defaults,
        options,
        overrides=list(overrides),
        transformations=merged + [{"id": "organize", "options": organize}],
    )


COLORED = {"type": "color-text"}


def row(title, repeat=None):
    """A heading; with `repeat`, it and what follows come once for each value of that variable."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}} | (
        {"repeat": repeat} if repeat else {}
    )


def laid_out(panels):
    """Gives each panel its place, left to right and downwards, and its number."""
    x = y = height = 0
    for number, one in enumerate(panels, start=1):
        place = one["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        one["gridPos"] = {"x": x, "y": y} | place
        one["id"] = number
        x, height = x + place["w"], max(height, place["h"])
    return panels


def variable(name, label, values):
    """A variable whose values come from a label; all of them unless somebody chooses."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": values,
        "query": {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
    }


VARIABLES = {
    "job": ("Job", "label_values(storage_guard_build_info, job)"),
    "instance": ("Guard", 'label_values(storage_guard_build_info{job=~"$job"}, instance)'),
    "volume": ("Volume", f"label_values(storage_guard_volume_pressure{{{GUARD}}}, volume)"),
    "tree": ("Tree", f"label_values(storage_guard_tree_files{{{GUARD}}}, tree)"),
}


def annotation(name, color, expr, title, text):
    """Marks on the time axis of every graph."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "step": "60s",
        "titleFormat": title,
        "textFormat": text,
        "useValueForTime": False,
    }


def dashboard(uid, title, description, variables, panels, runbook):
    """A dashboard in the classic model, which Grafana 10 and later reads."""
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "options": [],
        "regex": "",
        "multi": False,
        "includeAll": False,
        "refresh": 1,
        "hide": 0,
    }
    others = {"type": "dashboards", "title": "storage-guard", "tags": ["storage-guard"], "asDropdown": False, "url": ""}
    guide = {"type": "link", "title": "What to do", "tags": [], "asDropdown": False, "url": runbook, "icon": "doc"}
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["storage-guard"],
        "schemaVersion": 41,
        "version": 0,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "links": [
            others
            | {"icon": "external link", "tooltip": "", "includeVars": True, "keepTime": True, "targetBlank": False},
            guide | {"tooltip": "docs/operations.md", "includeVars": False, "keepTime": False, "targetBlank": True},
        ],
        "templating": {"list": [source] + [variable(name, *VARIABLES[name]) for name in variables]},
        "annotations": {
            "list": [
                annotation(
                    "Runs that ended",
                    WORK,
                    f"sum by (instance, volume, result) (increase(storage_guard_runs_total{{{GUARD}}}[$__rate_interval])) > 0",
                    "Run ended: {{result}}",
                    "{{instance}} {{volume}}",
                ),
                annotation(
                    "Alerts that fire",
                    BAD,
                    f"sum by (instance, alert, severity) (storage_guard_alerts_firing{{{GUARD}}}) > 0",
                    "{{alert}}",
                    "{{instance}} ({{severity}})",
                ),
            ]
        },
        "panels": laid_out(panels),
    }


def colored(series):
    """Fixed colours for series by their names."""
    return [override("byName", name, color={"mode": "fixed", "fixedColor": color}) for name, color in series]
