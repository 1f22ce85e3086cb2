"""The kinds that are not Kubernetes' own, as JSON schemas in which every unknown field is an error.

Written down from the custom resource definitions of KEDA 2.20 (config/crd/bases/keda.sh_scaledobjects.yaml) and of the
Prometheus operator 0.93 (example/prometheus-operator-crd/monitoring.coreos.com_*.yaml): every field of the levels that
the manifests use. Fields that hold whole further objects, such as credentials, are left out, so that using one fails
here until it is added.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
DURATION: Schema = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}
WORDS: Schema = {"type": "object", "additionalProperties": TEXT}


def integer(least: int | None = None, most: int | None = None) -> Schema:
    bounds = {"minimum": least, "maximum": most}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


def one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def many(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def fields(required: tuple[str, ...] = (), **known: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": known, "additionalProperties": False}


def resource(api_version: str, kind: str, spec: Schema) -> Schema:
    metadata = fields(("name",), name=NAME, namespace=NAME, labels=WORDS, annotations=WORDS)
    return fields(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=one_of(api_version),
        kind=one_of(kind),
        metadata=metadata,
        spec=spec,
    )


_POLICY = fields(("periodSeconds", "type", "value"), periodSeconds=integer(), type=TEXT, value=integer())
_RULES = fields(
    policies=many(_POLICY),
    selectPolicy=TEXT,
    stabilizationWindowSeconds=integer(0, 3600),
    tolerance={"type": ["string", "integer", "number"]},
)
SCALED_OBJECT = resource(
    "keda.sh/v1alpha1",
    "ScaledObject",
    fields(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=fields(("name",), apiVersion=TEXT, envSourceContainerName=TEXT, kind=TEXT, name=NAME),
        pollingInterval=integer(1),
        cooldownPeriod=integer(0),
        initialCooldownPeriod=integer(0),
        idleReplicaCount=integer(0),
        minReplicaCount=integer(0),
        maxReplicaCount=integer(1),
        fallback=fields(
            ("failureThreshold", "replicas"),
            behavior=one_of(
                "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower", "scalingModifiers"
            ),
            failureThreshold=integer(0),
            replicas=integer(0),
        ),
        advanced=fields(
            horizontalPodAutoscalerConfig=fields(name=TEXT, behavior=fields(scaleUp=_RULES, scaleDown=_RULES)),
            restoreToOriginalReplicaCount=FLAG,
        ),
        triggers=many(
            fields(
                ("type", "metadata"),
                type=NAME,
                name=TEXT,
                metricType=TEXT,
                metadata=WORDS,
                useCachedMetrics=FLAG,
                authenticationRef=fields(("name",), kind=TEXT, name=NAME),
            ),
            least=1,
        ),
    ),
)
"""keda.sh/v1alpha1 ScaledObject."""

_ACTIONS = [
    "replace",
    "keep",
    "drop",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
    "keepequal",
    "dropequal",
]
_RELABELING = fields(
    action=one_of(*_ACTIONS),
    modulus=integer(0),
    regex=TEXT,
    replacement=TEXT,
    separator=TEXT,
    sourceLabels=TEXTS,
    targetLabel=TEXT,
)
POD_MONITOR = resource(
    "monitoring.coreos.com/v1",
    "PodMonitor",
    fields(
        ("selector",),
        jobLabel=TEXT,
        podTargetLabels=TEXTS,
        namespaceSelector=fields(any=FLAG, matchNames=TEXTS),
        selector=fields(
            matchLabels=WORDS,
            matchExpressions=many(fields(("key", "operator"), key=TEXT, operator=TEXT, values=TEXTS)),
        ),
        sampleLimit=integer(0),
        targetLimit=integer(0),
        labelLimit=integer(0),
        scrapeClass=NAME,
        podMetricsEndpoints=many(
            fields(
                port=TEXT,
                portNumber=integer(1, 65535),
                path=TEXT,
                scheme=one_of("http", "https", "HTTP", "HTTPS"),
                interval=DURATION,
                scrapeTimeout=DURATION,
                honorLabels=FLAG,
                honorTimestamps=FLAG,
                filterRunning=FLAG,
                followRedirects=FLAG,
                relabelings=many(_RELABELING),
                metricRelabelings=many(_RELABELING),
            )
        ),
    ),
)
"""monitoring.coreos.com/v1 PodMonitor."""

PROMETHEUS_RULE = resource(
    "monitoring.coreos.com/v1",
    "PrometheusRule",
    fields(
        groups=many(
            fields(
                ("name",),
                name=NAME,
                interval=DURATION,
                query_offset=DURATION,
                labels=WORDS,
                limit=integer(),
                rules=many(
                    {
                        **fields(
                            ("expr",),
                            alert=TEXT,
                            record=TEXT,
                            expr={"type": ["string", "integer"]},
                            labels=WORDS,
                            annotations=WORDS,
                            keep_firing_for=DURATION,
                            **{"for": DURATION},
                        ),
                        "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
                    }
                ),
            )
        )
    ),
)
"""monitoring.coreos.com/v1 PrometheusRule."""

SCHEMAS = {"ScaledObject": SCALED_OBJECT, "PodMonitor": POD_MONITOR, "PrometheusRule": PROMETHEUS_RULE}
