# The function and its triggers, as serverless.yml describes them, for those who keep their cloud in Terraform.
# Build the package first: `make package EXTRAS=remote-write` (docs/deploy.md). Not tested against the live provider.
#
# Two things differ from `make deploy`, since the provider cannot do them here. It has no argument for the time that a function may
# take to start: the API's default, 65 seconds, holds in the place of initTimeout in serverless.yml. And no version is published, so
# $DEFAULT leads to $LATEST.

terraform {
  required_providers {
    tencentcloud = {
      source  = "tencentcloudstack/tencentcloud"
      version = ">= 1.83.16"
    }
    local = {
      source  = "hashicorp/local"
      version = ">= 2.0.0"
    }
  }
}

locals {
  # An empty setting is left out: its default holds.
  settings = { for name, value in var.settings : name => value if value != "" }
}

# The provider uploads the code when the path of the zip changes, and does not look into it. So the path holds a digest.
resource "local_file" "package" {
  source          = var.package
  filename        = "${path.module}/.build/${filesha256(var.package)}.zip"
  file_permission = "0644"
}

resource "tencentcloud_scf_function" "forwarder" {
  name              = var.name
  namespace         = var.namespace
  description       = "Forwards metric points and never loses one in silence"
  handler           = "index.main_handler"
  runtime           = "Python3.10"
  func_type         = "Event"
  mem_size          = 256
  timeout           = 60
  zip_file          = local_file.package.filename
  role              = var.role
  vpc_id            = var.vpc_id
  subnet_id         = var.subnet_id
  enable_public_net = var.public_access
  cls_logset_id     = var.logset_id
  cls_topic_id      = var.log_topic_id
  environment       = local.settings
}

# Asynchronous events: attempts after the first, and the seconds that an event is kept.
resource "tencentcloud_scf_function_event_invoke_config" "forwarder" {
  function_name = tencentcloud_scf_function.forwarder.name
  namespace     = var.namespace
  async_trigger_config {
    retry_config {
      retry_num = 2
    }
    msg_ttl = 21600
  }
}

resource "tencentcloud_scf_trigger" "ckafka" {
  count         = var.ckafka == null ? 0 : 1
  function_name = tencentcloud_scf_function.forwarder.name
  namespace     = var.namespace
  type          = "ckafka"
  trigger_name  = "${var.ckafka.instance_id}-${var.ckafka.topic}"
  trigger_desc = jsonencode({
    maxMsgNum         = 1000
    offset            = "latest"
    retry             = 10000
    timeOut           = 10
    consumerGroupName = "metric-forwarder"
  })
  enable    = "OPEN"
  qualifier = "$DEFAULT"
}

resource "tencentcloud_scf_trigger" "timer" {
  for_each        = var.timers
  function_name   = tencentcloud_scf_function.forwarder.name
  namespace       = var.namespace
  type            = "timer"
  trigger_name    = each.key
  trigger_desc    = each.value.cron
  custom_argument = each.value.message
  enable          = "OPEN"
  qualifier       = "$DEFAULT"
}
