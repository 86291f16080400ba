-- Orders of credits, as the worker meets them. Parameters are written %(name)s.

-- name: take_orders
-- Orders that are to be sent now.
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
-- Notes why orders were not made.
select
    faregate.refuse_orders(
        %(ids)s::uuid[], %(due_at)s::timestamptz[], %(refusals)s::text[]
    );

-- name: count_orders
-- How many orders wait, for how long the oldest has, and how many were refused.
select
    waiting,
    oldest_s,
    refused
from faregate.count_orders();
