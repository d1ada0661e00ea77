# ruff: noqa
# mypy: ignore-errors
# The order workflow of the AWS workshop page, as it is written there; only the import root is another.
import random
import datetime
from perdure.config import Duration
from perdure.context import DurableContext, StepContext, durable_step
from perdure.execution import durable_execution


@durable_step
def create_order(context: StepContext):
    order_id = f"order-{random.randint(1, 100)}"
    context.logger.info(f"Creating order... : {order_id}")
    return {"order_id": order_id, "total": 50.00, "status": "Created"}


@durable_step
def send_notification(context: StepContext, order_id: str):
    context.logger.info(f"Sending notification...")
    # Simulate 50% failure rate to demonstrate resiliency
    if random.random() < 0.5:
        context.logger.error(f"Notification service temporarily unavailable for order {order_id}")
        raise Exception("Notification service error - simulating network timeout")
    else:
        return {
            "sent": True,
            "order_id": order_id,
            "recipient": "customer@example.com",
            "timestamp": datetime.datetime.now().isoformat(),
        }


@durable_execution
def lambda_handler(event: dict, context: DurableContext) -> dict:
    print(f"Function started at: {datetime.datetime.now()}")
    # Step 1: Create the order
    order_details = context.step(create_order())
    context.logger.info(f"Order created: {order_details['order_id']}")
    # Step 2: Wait 5 seconds (reduced from 60 for faster testing)
    context.logger.info("Waiting 5 seconds before sending notification...")
    context.wait(Duration.from_seconds(5))
    # Step 3: Send notification
    context.logger.info("Waited for 5 seconds without consuming resources or incurring runtime cost.")
    notification_details = context.step(send_notification(order_details["order_id"]))
    context.logger.info("Notification sent successfully...")
    return {"success": True, "notification": notification_details}
