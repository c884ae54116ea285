// Every word of the page, in both languages. {0} and {1} are replaced by values.
const WORDS = {
  en: {
    other: "中文", pageTitle: { emulator: "Emulated receiver", serve: "Metric forwarder" },
    skip: "Skip to the series", pause: "Pause", resume: "Resume", clear: "Clear", copy: "Copy", copied: "Copied",
    loading: "Loading", live: "Live", paused: "Paused", selected: "Paused while text is selected", lost: "No answer from the server; trying again",
    emptyTitle: "Nothing has arrived yet", emptyText: "Try this in another terminal. This page shows it at once.",
    filters: "Filter", window: "Time window", minutes5: "5 minutes", minutes15: "15 minutes", minutes60: "60 minutes",
    search: "Text in a name or a dimension", namespace: "Namespace", allNamespaces: "all", noNamespace: "(none)",
    seriesState: "State", anyState: "any", fresh: "fresh (last minute)", quiet: "quiet", failed: "not delivered",
    flow: "What came in, and what happened to it", rate: "Points a second", outcomes: "Outcomes", answers: "Answers to requests", reasons: "Reasons",
    rateNow: "{0} points a second delivered in the last minute", rateLabel: "Points a second, highest {0}", deliveredShort: "delivered", otherShort: "not delivered",
    none: "none", noReports: "To see the function's reports here, set {0} to the address of this page where you run the function.", noReportsServe: "No event yet.",
    latency: "Half within {0} ms, 95 % within {1} ms, slowest {2} ms", outcomesOf: "Points received: {0}; events: {1}",
    switches: "Faults and limits", faults: "Faults", faultsText: "Each request meets at most one of the faults that are on.", share: "Share of requests",
    limits: "Limits", limitsText: "Empty: no limit.", remove: "Remove", faultsOn: "{0} on", notChanged: "Not changed: {0}",
    faultNames: { "code 1006": "Return code 1006: too many requests", "code 1003": "Return code 1003: the receiver failed internally", "status 503": "HTTP 503", delay: "Reply 2 s late", reset: "Reset the connection", hang: "Never reply", garbage: "Reply with text that makes no sense", truncate: "Send half of the reply" },
    limitNames: { maxRequestsPerSecond: "Requests a second (1006)", maxPointsPerRequest: "Points in a request (1018)", maxBodyBytes: "Bytes of a body (1015)", maxNameLength: "Characters of a name (1020)", latencySeconds: "Delay of every reply, seconds" },
    series: "Series", seriesCount: "{0} shown of {1}, newest first", seriesAll: "{0}, newest first", more: "Show {0} more", noDimensions: "no dimensions",
    pointsIn: "Points: {0}", noneInWindow: "none in this window", chart: "{0}: {1} values from {2} to {3}, the newest {4}. Arrow keys read each value.",
    events: "Events and their reports", requests: "Requests", noRequests: "No request yet.",
    columns: { time: "Time", trigger: "Trigger", status: "Status", received: "Points", outcomes: "Outcomes", answers: "Answers", ms: "ms", reason: "First reason", answer: "Answer", points: "Points", namespace: "Namespace", bytes: "Bytes", fault: "Fault" },
    outcomeNames: { delivered: "delivered", duplicate: "duplicate", filtered: "filtered", invalid: "invalid", stale: "stale", rejected: "rejected", spooled: "spooled", uncertain: "uncertain", undelivered: "undelivered" },
    statusNames: { ok: "ok", partial: "partial", failed: "failed", empty: "empty" }, waiting: "waiting", noReply: "no reply",
  },
  zh: {
    other: "English", pageTitle: { emulator: "模拟接收端", serve: "指标转发器" },
    skip: "跳到序列", pause: "暂停", resume: "继续", clear: "清空", copy: "复制", copied: "已复制",
    loading: "加载中", live: "实时", paused: "已暂停", selected: "选中文字时暂停更新", lost: "服务器没有应答，正在重试",
    emptyTitle: "还没有收到任何数据", emptyText: "在另一个终端里运行下面的命令，本页会立即显示结果。",
    filters: "筛选", window: "时间范围", minutes5: "5 分钟", minutes15: "15 分钟", minutes60: "60 分钟",
    search: "名称或维度中的文字", namespace: "命名空间", allNamespaces: "全部", noNamespace: "（无）",
    seriesState: "状态", anyState: "全部", fresh: "最近一分钟有数据", quiet: "暂无新数据", failed: "未送达",
    flow: "收到了什么，结果如何", rate: "每秒数据点", outcomes: "结果", answers: "请求的应答", reasons: "原因",
    rateNow: "最近一分钟每秒送达 {0} 个数据点", rateLabel: "每秒数据点，最高 {0}", deliveredShort: "已送达", otherShort: "未送达",
    none: "无", noReports: "运行函数时把 {0} 设为本页地址，函数的报告就会显示在这里。", noReportsServe: "还没有事件。",
    latency: "一半在 {0} 毫秒内，95% 在 {1} 毫秒内，最慢 {2} 毫秒", outcomesOf: "{1} 个事件，共收到 {0} 个数据点",
    switches: "故障与限制", faults: "故障", faultsText: "开启期间，每个请求最多遇到其中一个故障。", share: "受影响的请求比例",
    limits: "限制", limitsText: "留空表示不限制。", remove: "移除", faultsOn: "已开启 {0} 个", notChanged: "没有更改：{0}",
    faultNames: { "code 1006": "返回码 1006：请求过多", "code 1003": "返回码 1003：接收端内部错误", "status 503": "HTTP 503", delay: "应答延迟 2 秒", reset: "重置连接", hang: "始终不应答", garbage: "返回无法识别的内容", truncate: "只返回一半应答" },
    limitNames: { maxRequestsPerSecond: "每秒请求数（1006）", maxPointsPerRequest: "每个请求的数据点数（1018）", maxBodyBytes: "请求体字节数（1015）", maxNameLength: "名称的字符数（1020）", latencySeconds: "每个应答延迟的秒数" },
    series: "序列", seriesCount: "显示 {1} 个中的 {0} 个，最新的在前", seriesAll: "{0} 个，最新的在前", more: "再显示 {0} 个", noDimensions: "无维度",
    pointsIn: "数据点：{0}", noneInWindow: "此时间范围内没有数据", chart: "{0}：{1} 个值，从 {2} 到 {3}，最新为 {4}。用方向键逐个读取。",
    events: "事件及其报告", requests: "请求", noRequests: "还没有请求。",
    columns: { time: "时间", trigger: "触发器", status: "状态", received: "数据点", outcomes: "结果", answers: "应答", ms: "毫秒", reason: "首个原因", answer: "应答", points: "数据点", namespace: "命名空间", bytes: "字节", fault: "故障" },
    outcomeNames: { delivered: "已送达", duplicate: "重复", filtered: "已过滤", invalid: "无效", stale: "过期", rejected: "被拒绝", spooled: "已暂存", uncertain: "不确定", undelivered: "未送达" },
    statusNames: { ok: "成功", partial: "部分成功", failed: "失败", empty: "空" }, waiting: "等待中", noReply: "没有应答",
  },
};

const KEY = "language";
let language = pick();

function pick() {
  const asked = new URLSearchParams(location.search).get("lang") || stored() || navigator.language || "en";
  return asked.toLowerCase().startsWith("zh") ? "zh" : "en";
}

// A browser may refuse to keep anything.
function stored() {
  try { return localStorage.getItem(KEY); } catch { return null; }
}

export function current() {
  return language;
}

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  try { localStorage.setItem(KEY, language); } catch { /* the browser's language is used the next time */ }
}

export function word(name, ...values) {
  return WORDS[language][name].replace(/\{(\d)\}/g, (_, place) => String(values[Number(place)]));
}

// The name of an outcome, a column and the like; a key without a name is shown itself.
export function named(table, key) {
  const names = WORDS[language][table];
  return Object.hasOwn(names, key) ? names[key] : key;
}
