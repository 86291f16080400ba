-- noqa: disable=RF01

-- name: leaf
-- The leaf of a row t: 16 bytes of the SHA-256 of its content. `queries.py` replaces `leaf_of` by
-- it in all other files. Rows without a sequence have no balance and no epoch either.
select substr(sha256(
    uuid_send(t.id) || uuid_send(t.user_id) || int4send(t.amount)
    || coalesce(int8send(t.sequence) || int4send(t.balance_after) || int8send(t.epoch), '')
    || timestamptz_send(t.timestamp)
    || coalesce(int4send(t.allowance_amount) || int4send(t.allowance_after), '')
    || coalesce(timestamptz_send(t.period_start), '')
    || convert_to(concat_ws(
        E'\n', t.type, t.refund_of, to_json(t.description), t.metadata
    ), 'UTF8')
), 1, 16);
