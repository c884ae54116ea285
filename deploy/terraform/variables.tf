variable "name" {
  type    = string
  default = "metric-forwarder"
}

variable "namespace" {
  type    = string
  default = "default"
}

variable "package" {
  description = "The zip that `make package` built."
  type        = string
  default     = "../../dist/metric-forwarder.zip"
}

variable "vpc_id" {
  type = string
}

variable "subnet_id" {
  type = string
}

variable "logset_id" {
  description = "Where the reports go: a log set of CLS."
  type        = string
}

variable "log_topic_id" {
  type = string
}

variable "role" {
  description = "Only for Secrets Manager and COS: docs/deploy.md has its policy."
  type        = string
  default     = null
}

variable "public_access" {
  description = "Whether the function reaches the Internet: Secrets Manager is there, unless MF_SECRET_ENDPOINT names one inside the VPC."
  type        = bool
  default     = true
}

variable "settings" {
  description = "The settings of the function, MF_…: the table in README.md."
  type        = map(string)
  sensitive   = true
}

variable "ckafka" {
  description = "The topic whose messages are forwarded; null: none."
  type = object({
    instance_id = string
    topic       = string
  })
  default = null
}

variable "timers" {
  description = "By name: a cron expression of seven fields, and the message, such as {\"replay\":true}."
  type = map(object({
    cron    = string
    message = string
  }))
  default = {}
}
