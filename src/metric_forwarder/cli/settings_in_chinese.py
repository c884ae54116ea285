"""The meaning of each setting in Chinese, for README.zh-CN.md; a test checks that every setting is here."""

# ruff: noqa: RUF001 - the punctuation of Chinese

from collections.abc import Mapping

# fmt: off
MEANINGS: Mapping[str, str] = {
    "MF_DESTINATION": "数据点的目的地：{destinations}",
    "MF_RECEIVER_URL": "接收端地址；较早的路径 `/report.cgi` 同样可用",
    "MF_RECEIVER_METHOD": "请求方法：`POST` 或 `GET`",
    "MF_SECRET_ID": "主账号的 SecretId：接收端不接受子账号和角色的密钥",
    "MF_SECRET_KEY": "主账号的 SecretKey",
    "MF_SECRET_NAME": '代替上面两项：凭据管理系统（SSM）中的一个凭据，内容为 `{"SecretId": "…", "SecretKey": "…"}`',
    "MF_SECRET_VERSION": "凭据的版本；您自己创建的版本可能是 `v1`",
    "MF_SECRET_ENDPOINT": "函数访问凭据管理系统的地址",
    "MF_REGION": "地域，简称（`gz`）或全称（`ap-guangzhou`）；留空则取函数所在的地域",
    "MF_REMOTE_WRITE_URL": "用于 `remote-write`：写入地址，例如 `http://10.0.0.5:9090/api/v1/prom/write`；此时不需要接收端、密钥和地域的设置",
    "MF_REMOTE_WRITE_USER": "Basic 认证的用户名：APPID，或 CLS 指标主题的 SecretId；留空则把密码作为 Bearer 令牌发送",
    "MF_REMOTE_WRITE_PASSWORD": "对应的密码或令牌，或 SecretKey；留空则不发送",
    "MF_REMOTE_WRITE_HEADERS": "每个请求附带的其他请求头，例如租户的 `X-Scope-OrgID=team-a`：`NAME=VALUE,NAME=VALUE`",
    "MF_REMOTE_WRITE_CHECK": "`on`：发送第一批数据点之前，目的地必须拒绝一个 remote write 无法读取的请求；`off`：用于按设计对任何请求都返回成功的目的地",
    "MF_CA_FILE": "私有证书颁发机构的证书文件（PEM）：连接目的地以及 `tencentcloudapi.com` 之外的 `MF_SECRET_ENDPOINT` 时只信任它，代替公共证书",
    "MF_NAMESPACE": "数据点未写明命名空间时使用的命名空间",
    "MF_BATCH_MAX_POINTS": "一个请求最多包含的数据点个数",
    "MF_BATCH_MAX_BYTES": "一个请求中数据点最多占用的字节数（压缩前）",
    "MF_CONCURRENCY": "同时进行的请求个数；同一序列的数据点保持先后顺序",
    "MF_MAX_RPS": "每个实例每秒最多发出的请求个数；留空表示不限",
    "MF_MAX_ATTEMPTS": "同一批数据点最多尝试发送的次数",
    "MF_REQUEST_TIMEOUT_S": "建立连接和等待应答的超时时间，单位：秒",
    "MF_DEADLINE_MARGIN_MS": "从函数的执行超时时间中预留给返回结果的毫秒数，最多占一半",
    "MF_DEDUPE": "去重方式：`memory:`（仅在当前热实例内）、`redis://…` 或 `rediss://…`（所有实例共享），或 `off`（关闭）",
    "MF_DEDUPE_WINDOW_S": "记住已上报数据点的时长，单位：秒",
    "MF_DEDUPE_BY": "重复的判断依据：`content`（内容）；生产者的时间戳精度较低、需按条计数时用 `message`（消息）",
    "MF_MAX_AGE_S": "`timestamp` 早于这么多秒的数据点算作 `stale`（过期）；0 表示不限",
    "MF_MAX_AHEAD_S": "时间比时钟超前这么多秒以上的数据点算作 `invalid`；0 表示不限",
    "MF_UNCERTAIN": "请求没有得到应答时：`resend`（再次发送），或 `hold`（不再发送，报告为 `uncertain`）",
    "MF_SPOOL": "保存暂时无法上报的数据点和死信的位置：`file:///path`、`redis://…` 或 `rediss://…`",
    "MF_HTTP_TOKEN": "允许携带该令牌的 HTTP 客户端访问：`Authorization: Bearer …`；至少 20 个字符",
    "MF_HTTP_AUTH": "`token`（使用 `MF_HTTP_TOKEN`），或 `cam`：由平台验证 HTTP 客户端",
    "MF_BRIDGE_ACCOUNTS": '代替接收端应答其旧客户端：`own`（客户端使用转发器自己的密钥签名）、`ID:KEY,ID:KEY` 或 `{"ID": "KEY"}`',
    "MF_COS_BUCKETS": "可以读取对象的存储桶，名称含 APPID：`name-1250000000,…`；为空：函数所在账号自己的存储桶",
    "MF_SCRAPE_HOSTS": "定时触发器可以抓取的主机：`10.0.0.5:9100,node.internal`；为空：不抓取",
    "MF_FORMAT": "如何读取消息：`auto`（按内容识别）、docs/formats.md 中的一种格式，或按主题指定：`topic=influx,prefix*=otlp-json,auto`",
    "MF_MAPPING": "用于 docs/formats.md 中没有的 JSON 格式：说明样本在其中的位置，为 JSON 文本或程序包中的 JSON 文件",
    "MF_INFLUX_PRECISION": "influx 行协议中时间的单位：`ns`、`us`、`ms` 或 `s`",
    "MF_OTLP_RESOURCE": "OTLP 资源中除服务名与实例以外的属性：`filtered`（过滤）、指标 `target_info`，或每个数据点的 `labels`",
    "MF_LABELS": "为没有同名维度的数据点添加：`env=prod,region=gz`",
    "MF_RELABEL": "作用于每个数据点的规则，同 Prometheus 的 `relabel_config`：程序包中的 JSON 文件，或 JSON 文本",
    "MF_SCHEMA": "您自己的数据点 JSON Schema（draft-07）文件",
    "MF_SELF_METRICS": "`on`：把转发器自身的指标写入 `MF_REMOTE_WRITE_URL`（与目的地无关），`serve` 在 `/metrics` 提供这些指标",
    "MF_SELF_METRICS_INTERVAL_S": "每个实例写入自身指标的最短间隔，单位：秒",
    "MF_LOG_LEVEL": "日志级别：`DEBUG`、`INFO`、`WARN` 或 `ERROR`",
}
# fmt: on

DESTINATIONS: Mapping[str, str] = {
    "receiver": "自定义监控接收端",
    "remote-write": "Prometheus",
    "stdout": "JSON Lines，用于调试和管道",
}
"""What ``MF_DESTINATION`` says of each destination, where its name does not say enough."""
HEADING = "| 变量 | 默认值 | 含义 |"
IN_BRACKETS = "（{}）"
ELSEWHERE = "；目的地为 `{1}` 时为 {0}"
"""The text for a destination with another default: the default, then the destination."""
