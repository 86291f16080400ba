-- Orders of credits, for the worker. Parameters are written %(name)s.

-- name: take_orders
-- Due orders.
select
    id,
    user_id,
    amount,
    type,
    description,
    metadata,
    due_at
from faregate.take_orders(%(count_max)s::integer);

-- name: refuse_orders
-- Notes why orders were refused.
select
    faregate.refuse_orders(
        %(ids)s::uuid[], %(due_at)s::timestamptz[], %(refusals)s::text[]
    );

-- name: count_orders
-- The number of pending orders, the age of the oldest, and the number of refused ones.
select
    waiting,
    oldest_s,
    refused
from faregate.count_orders();
